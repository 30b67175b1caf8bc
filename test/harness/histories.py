"""Histories of transactions that append to lists and read them, and the anomalies in them.

A read of a list tells the order of all appends before it, so that the dependencies between transactions are known and not
guessed (Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations", VLDB 2020; names as in
Adya's thesis). Values are never appended twice, and tell their transaction.
"""
import collections
import dataclasses

COMMITTED, ABORTED, UNKNOWN = "committed", "aborted", "unknown"


@dataclasses.dataclass
class Transaction:
    """`appends`: [(key, value)] in order; `reads`: one {key: [value, …]} for each statement that read, without what the
    transaction itself had appended; `one_snapshot`: all of its reads are of one moment."""
    number: int
    appends: list = dataclasses.field(default_factory=list)
    reads: list = dataclasses.field(default_factory=list)
    outcome: str = COMMITTED
    one_snapshot: bool = False

    def read_sets(self):
        if not self.one_snapshot:
            return self.reads
        whole = {}
        for read in self.reads:
            for key, values in read.items():
                whole.setdefault(key, values)
        return [whole] if whole else []


def anomalies(history):
    """Lines, one for each anomaly found: what it is, and the transactions in it."""
    return _History(history).check()


class _History:
    def __init__(self, history):
        self.all = {each.number: each for each in history}
        self.writer = {(key, value): each for each in history for key, value in each.appends}
        self.found = []

    def check(self):
        self.orders = self.version_orders()
        for each in self.all.values():
            if each.outcome == COMMITTED:
                self.check_reads(each)
        self.check_cycles()
        return self.found

    def version_orders(self):
        """{key: its values in order}, of the longest read of each; the others must be beginnings of it."""
        longest = collections.defaultdict(list)
        reads = [(each, key, values) for each in self.all.values() if each.outcome == COMMITTED
                 for read in each.reads for key, values in read.items()]
        for _, key, values in reads:
            if len(values) > len(longest[key]):
                longest[key] = values
        for each, key, values in reads:
            if longest[key][:len(values)] != values:
                self.found.append(f"incompatible orders of list {key}: {each.number} read {values}, another {longest[key]}")
            if len(set(values)) != len(values):
                self.found.append(f"a value twice in list {key}: {each.number} read {values}")
        return longest

    def check_reads(self, reader):
        for read in reader.reads:
            for key, values in read.items():
                for value in values:
                    writer = self.writer.get((key, value))
                    if writer is None:
                        self.found.append(f"garbage: {reader.number} read {value} of list {key}, which nobody wrote")
                    elif writer.outcome == ABORTED:
                        self.found.append(f"G1a, aborted read: {reader.number} read {value} of {writer.number}")
        for read in reader.read_sets():
            self.check_fractures(reader, read)
        if reader.one_snapshot:
            self.check_lost_updates(reader)

    def check_fractures(self, reader, read):
        """Of each other transaction that it saw, it saw all appends to the lists it read: all of them, and whole."""
        seen = {(key, value) for key, values in read.items() for value in values}
        writers = {self.writer[each].number for each in seen if each in self.writer} - {reader.number}
        for number in sorted(writers):
            missing = [(key, value) for key, value in self.all[number].appends if key in read and (key, value) not in seen]
            if missing:
                keys = {key for key, _ in missing} & {key for key, value in seen if self.writer.get((key, value)) is self.all[number]}
                name = "G1b, intermediate read" if keys else "fractured read"
                self.found.append(f"{name}: {reader.number} saw {number} without {missing}")

    def check_lost_updates(self, writer):
        """What it read of a list is what its first append to it came behind."""
        first = {}
        for key, value in writer.appends:
            first.setdefault(key, value)
        for read in writer.read_sets():
            for key in read.keys() & first.keys():
                order = self.orders[key]
                if first[key] in order and order.index(first[key]) != len(read[key]):
                    self.found.append(f"lost update: {writer.number} read {len(read[key])} values of list {key} and appended "
                                      f"behind {order.index(first[key])}")

    def edges(self):
        """{number: {number: kind}} of ww and wr dependencies between committed transactions."""
        graph = collections.defaultdict(dict)

        def add(first, second, kind):
            if first is not None and second is not None and first is not second:
                graph[first.number].setdefault(second.number, kind)

        for key, order in self.orders.items():
            for before, after in zip(order, order[1:]):
                add(self.writer.get((key, before)), self.writer.get((key, after)), "ww")
        for each in self.all.values():
            if each.outcome != COMMITTED:
                continue
            for read in each.reads:
                for key, values in read.items():
                    if values:
                        add(self.writer.get((key, values[-1])), each, "wr")
        return graph

    def check_cycles(self):
        """G0 and G1c: no circle of writes and of reads of what was written."""
        graph = self.edges()
        state, path = {}, []

        def visit(start):
            stack = [(start, iter(graph[start]))]
            state[start] = "open"
            path.append(start)
            while stack:
                node, successors = stack[-1]
                following = next(successors, None)
                if following is None:
                    stack.pop()
                    path.pop()
                    state[node] = "done"
                elif state.get(following) == "open":
                    circle = path[path.index(following):] + [following]
                    kinds = {graph[a][b] for a, b in zip(circle, circle[1:])}
                    self.found.append(f"{'G0, write cycle' if kinds == {'ww'} else 'G1c, circular information flow'}: {circle}")
                elif following not in state:
                    state[following] = "open"
                    path.append(following)
                    stack.append((following, iter(graph[following])))

        for number in list(graph):
            if number not in state:
                visit(number)
