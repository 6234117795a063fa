/** A node of another cluster that speaks for somebody else's node: for a later generation of it, or under its very name. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { encodeRecord } from "../../src/catalog/record/codec.ts";
import { BODY, type KeyText, keyParts } from "../../src/catalog/record/record.ts";
import { framesOf, open, ReplicatingNode, run, vectorOf, Wire } from "../fakes/replication.ts";

/** What `x` of c3 says to `o` of c1 of an origin that it calls `nodeId`, in its generation 2: the end of a key. */
function told(o: ReplicatingNode, body: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED, { key, hlc }: { key: KeyText; hlc: number }) {
  const x = new ReplicatingNode({ nodeId: "x", clusterId: "c3" });
  const link = open(o, x, 2);
  return (nodeId: string) => {
    const head = { seq: 1, hlc: hlc + 10, reach: SCOPE.REGION, filterSeq: 1, firstSeq: 1, principal: "p", unregisteredHlc: undefined };
    const records = [encodeRecord(head, { body, key: keyParts(key) })];
    const frame = { nodeId, generation: 2, after: 0, through: 1, records, isComplete: false, isLast: false, floor: 0 };
    link.receive({ kind: "records", frame, ...x.place }, o.timeOf(4), o.outputs);
  };
}

test.each([
  { what: "a key of a third cluster", clusterId: "c2", body: BODY.EXPIRED },
  { what: "a key of a third cluster", clusterId: "c2", body: BODY.UNREGISTERED },
  { what: "a key of our own cluster", clusterId: "c1", body: BODY.EXPIRED },
  { what: "a key of our own cluster", clusterId: "c1", body: BODY.UNREGISTERED },
])(
  "nothing is ended by it under $what ($body), whatever it calls its origin, and wherever the node of that name is",
  ({ clusterId, body }) => {
    const o = new ReplicatingNode({ nodeId: "o", clusterId: "c1" });
    const a = new ReplicatingNode({ nodeId: "a", clusterId });
    const key = a.put("shop", 0, { scope: SCOPE.REGION });
    const link = open(o, a, 0);
    link.receive(vectorOf([{ nodeId: "a", seq: 1 }]), o.timeOf(0), o.outputs);
    link.receive(framesOf(a, 0), o.timeOf(1), o.outputs);
    const tell = told(o, body, { key, hlc: a.replica.own(key)?.hlc ?? 0 });
    for (const life of ["live", "orphaned"] as const) {
      const origin = o.replica.origins.get("a/1");
      if (origin !== undefined) o.replica.setLife(origin, life);
      for (const nodeId of ["y", "a"]) tell(nodeId);
      expect(o.replica.view(key)?.name).toBe("shop");
    }
  },
);

/** A node of cluster c1 that knew `b` of `clusterId` by a link of its own; `another` is what the node of that name in that cluster says then. */
function knowing(clusterId: string) {
  const node = (nodeId: string, of: string) => new ReplicatingNode({ nodeId, clusterId: of });
  const [k, b] = [node("k", "c1"), node("b", clusterId)];
  for (const name of ["one", "two"]) b.put(name, 0, { scope: SCOPE.REGION });
  const wire = new Wire(k, b, 0);
  const now = run([wire], 0, 5000);
  wire.close();
  const another = (of: string, monoMs: number) => {
    const other = node("b", of);
    const keys = ["one", "two", "three"].map((name) => other.put(name, monoMs, { scope: SCOPE.REGION }));
    for (const key of keys) other.end(key, BODY.UNREGISTERED, monoMs);
    other.put("theirs", monoMs, { scope: SCOPE.REGION });
    return run([new Wire(k, other, monoMs)], monoMs, 10_000);
  };
  const shown = () => k.records().map(({ name, origin }) => `${name} of ${origin.clusterId}`);
  return { k, b, now, another, shown };
}

test.each(["c3", "c1"])(
  "an origin of %s that its node told of itself is not another cluster's, whatever name and generation a node of that has",
  (home) => {
    const { k, b, now, another, shown } = knowing(home);
    const want = [`one of ${home}`, `two of ${home}`];
    expect(shown()).toEqual(want);
    const later = another("c2", now);
    expect([shown(), k.vector()]).toEqual([want, ["b/1 2"]]);
    const events = k.outputs.flatMap((output) => (output.kind === "event" ? [output.event] : []));
    expect(events).toMatchObject([
      { name: "frame_refused", detail: { why: `the frame names cluster c2, but the origin is known to be in cluster ${home}` } },
    ]);
    // Nor is it taken for a sign that the node is there.
    expect(k.shared.heartbeats.provenMonoMs("b/1")).toBeLessThan(now);
    b.put("three", later, { scope: SCOPE.REGION });
    run([new Wire(k, b, later)], later, 5000);
    expect(shown()).toEqual([...want.slice(0, 1), `three of ${home}`, ...want.slice(1)]);
  },
);

test("a node that was in another cluster, and is let in as one of ours, is believed", () => {
  const { now, another, shown } = knowing("c3");
  another("c1", now);
  expect(shown()).toContain("theirs of c1");
});

test.each([
  { what: "its node gave its first records on its own link", listed: undefined, teller: "b" },
  { what: "the table of members has its node there", listed: "c3", teller: "hub" },
])("an origin of c3 is not moved to c2 by a node of that name there: $what", ({ listed, teller }) => {
  const members = {
    find: (nodeId: string) => (nodeId === "b" && listed !== undefined ? { clusterId: listed, region: "r1", generation: 1 } : undefined),
  };
  const k = new ReplicatingNode({ nodeId: "k", clusterId: "c1", members });
  const [b, other] = ["c3", "c2"].map((clusterId) => new ReplicatingNode({ nodeId: "b", clusterId })) as [ReplicatingNode, ReplicatingNode];
  for (const node of [b, other]) node.put("one", 0, { scope: SCOPE.REGION });
  const hub = teller === "b" ? b : new ReplicatingNode({ nodeId: "hub", clusterId: "c1" });
  // Before any word of how long ago it was.
  open(k, hub, 0).receive(framesOf(b, 0), k.timeOf(1), k.outputs);
  open(k, other, 2).receive(framesOf(other, 0), k.timeOf(3), k.outputs);
  expect(k.records().map(({ origin }) => origin.clusterId)).toEqual(["c3"]);
});
