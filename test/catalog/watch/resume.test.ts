/** How a node stands to a portable cursor; what its streams make of that is in `feed.test.ts`. */
import { expect, test } from "vitest";
import { ANY } from "../../../src/catalog/query/filter.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { type CursorOrigin, type PortableCursor, shortHolder } from "../../../src/catalog/watch/cursor.ts";
import { WatchReader } from "../../../src/catalog/watch/reader.ts";
import { isAhead, isOfReader, ResumeGap } from "../../../src/catalog/watch/resume.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const T = timeOf(0, 0);
const GONE = 10;
const LONG_AFTER = timeOf(6_000, 0);

/** Node b with two records of its own (seq 1 and 2) and one of node a (seq 1). */
function nodeB(): FabricComponent {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  a.put(KEYS[0]!, 0, T);
  a.commit(T);
  b.put(KEYS[1]!, 0, T);
  b.put(KEYS[2]!, 0, T);
  b.commit(T);
  b.copy(a, "a/1", T);
  return b;
}

function readerOf(node: FabricComponent): WatchReader {
  const viewer = { clusterId: "c1", tenant: "" };
  const options = {
    filter: ANY,
    name: "r",
    hash: "h",
    viewer,
    allowed: () => true,
    policyEpoch: () => "e",
    isNamesOnly: false,
    withDigest: false,
  };
  return new WatchReader(options, node.replica, node.facts);
}

function knowing(nodeId: string, seq: number, generation = 1): CursorOrigin {
  return { nodeId, generation, seq, life: "live" };
}

function cursorOf(...origins: readonly CursorOrigin[]): PortableCursor {
  return { kind: "portable", clusterId: "c1", readerHash: "h", policyEpoch: "e", origins };
}

test.each([
  { what: "all that is here", origins: [knowing("a", 1), knowing("b", 2)], soon: "covered", late: "covered" },
  { what: "less than is here", origins: [knowing("b", 1)], soon: "covered", late: "covered" },
  { what: "more of a node that lives", origins: [knowing("a", 2)], soon: "behind", late: "behind" },
  { what: "a node unknown here", origins: [knowing("z", 1)], soon: "behind", late: "lost" },
  { what: "more of this node than its journal", origins: [knowing("b", 3)], soon: "lost", late: "lost" },
  { what: "an earlier generation of this node", origins: [knowing("b", 1, 7)], soon: "lost", late: "lost" },
  { what: "both what may come and what cannot", origins: [knowing("b", 3), knowing("a", 2)], soon: "behind", late: "behind" },
])("a cursor that knows $what: at first $soon, a minute later $late", ({ origins, soon, late }) => {
  const gap = new ResumeGap(cursorOf(...origins), readerOf(nodeB()), T);
  expect([gap.coverage(T, true), gap.coverage(LONG_AFTER, true)]).toEqual([soon, late]);
});

test("a node that has not caught up gives nothing up but what is its own", () => {
  const reader = readerOf(nodeB());
  for (const origin of [knowing("z", 1), knowing("b", 1, 7)])
    expect(new ResumeGap(cursorOf(origin), reader, T).coverage(LONG_AFTER, false)).toBe("behind");
  expect(new ResumeGap(cursorOf(knowing("b", 3)), reader, T).coverage(LONG_AFTER, false)).toBe("lost");
});

test("more of an origin that is away, or has a newer generation, is given up after a minute; a forgotten one at once", () => {
  const away = nodeB();
  away.setLife("a/1", "orphaned");
  const superseded = nodeB();
  superseded.replica.origin("a", 2);
  for (const node of [away, superseded]) {
    const gap = new ResumeGap(cursorOf(knowing("a", 2)), readerOf(node), T);
    expect([gap.coverage(T, true), gap.coverage(LONG_AFTER, true)]).toEqual(["behind", "lost"]);
  }
  const forgetful = nodeB();
  forgetful.forget("a/1", T);
  expect(new ResumeGap(cursorOf(knowing("a", 1)), readerOf(forgetful), T).coverage(T, false)).toBe("lost");
});

test("what a node refused of another cluster is not waited for elsewhere beyond a minute, though its node is alive; of ours it is", () => {
  const standings = (clusterId: string, settled?: number) => {
    const node = nodeB();
    node.replica.origin("a", 1).clusterId = clusterId;
    const gap = new ResumeGap(cursorOf({ ...knowing("a", 2), ...(settled !== undefined && { settled }) }), readerOf(node), T);
    return [gap.coverage(T, true), gap.coverage(LONG_AFTER, true)];
  };
  expect(standings("c2", 0)).toEqual(["behind", "lost"]);
  expect([standings("c1", 0), standings("c2")]).toEqual([
    ["behind", "behind"],
    ["behind", "behind"],
  ]);
});

test("the difference is tellable while no tombstone beyond the cursor was collected and the policy is the cursor's", () => {
  const node = nodeB();
  const gap = new ResumeGap(cursorOf(knowing("b", 2)), readerOf(node), T);
  const old = new ResumeGap(cursorOf(knowing("b", 1)), readerOf(node), T);
  const other = new ResumeGap({ ...cursorOf(knowing("b", 2)), policyEpoch: "f" }, readerOf(node), T);
  node.replica.self.floor = 2;
  expect([gap.isTellable(), old.isTellable(), other.isTellable()]).toEqual([true, false, false]);
});

test("what a whole transfer did not list goes in slices: who was not told of it by then needs a snapshot, also before V moves", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  for (const key of KEYS) a.put(key, 0, T);
  a.commit(T);
  b.copy(a, "a/1", T);
  for (const key of KEYS.slice(0, GONE)) a.end(key, BODY.EXPIRED, T);
  a.commit(T);
  a.collect(timeOf(2000, 0));
  const origin = b.replica.origins.get("a/1");
  const { through = 0 } = origin ?? {};
  const gapAt = (seq: number) => new ResumeGap(cursorOf(knowing("a", seq)), readerOf(b), T);
  expect(gapAt(through).isTellable()).toBe(true);
  b.receiver.apply(a.frame(a.replica.self, { after: 0, isComplete: true }, 10_000), T);
  expect([gapAt(through).isTellable(), gapAt(through + GONE).isTellable()]).toEqual([false, true]);
  b.replica.sweep(4, T);
  expect([gapAt(through).isTellable(), origin?.through]).toEqual([false, through]);
});

test("a cursor is a reader's own by cluster and by what it holds", () => {
  const reader = readerOf(nodeB());
  const cursor = cursorOf();
  expect([cursor, { ...cursor, clusterId: "c2" }, { ...cursor, readerHash: "g" }].map((c) => isOfReader(c, reader))).toEqual([
    true,
    false,
    false,
  ]);
  const holders = [shortHolder("b-1", "h"), shortHolder("b-1", "g"), shortHolder("b-1"), shortHolder("b-2", "h")];
  expect(holders.map((holder) => isOfReader({ kind: "short", holder, revision: 1, settled: 1 }, reader))).toEqual([
    true,
    false,
    false,
    false,
  ]);
});

test("a cursor is ahead of a replica that does not cover it", () => {
  const { replica } = nodeB();
  const cursors = [cursorOf(knowing("b", 2)), cursorOf(knowing("b", 3)), cursorOf(knowing("z", 1)), cursorOf(knowing("z", 0))];
  expect(cursors.map((cursor) => isAhead(cursor, replica))).toEqual([false, true, true, false]);
});
