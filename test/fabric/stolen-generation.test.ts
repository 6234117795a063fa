/** A node of another cluster that speaks for a later generation of somebody else's node. */
import { expect, test } from "vitest";
import { BODY, type KeyText, keyParts } from "../../src/catalog/record.ts";
import { encodeRecord } from "../../src/catalog/record-codec.ts";
import { SCOPE } from "../../src/catalog/scope.ts";
import { framesOf, open, ReplicatingNode, vectorOf } from "../fakes/replication.ts";

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
