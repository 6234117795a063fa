/** The summary replica: records of what clusters signed, which nodes exchange in the frames of replication. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { encodeRecord as encodeReplicaRecord } from "../../src/catalog/record/codec.ts";
import { BODY, HEALTH, KIND } from "../../src/catalog/record/record.ts";
import { decodeAnnouncement, encodeBeacon, encodeRecord, encodeSummary } from "../../src/summary/codec.ts";
import { announcementKey, beaconKey, recordKey } from "../../src/summary/keys.ts";
import { BAND, type Summary } from "../../src/summary/summary.ts";
import { runs } from "../fakes/effort.ts";
import { ANNOUNCEMENT, BEACON, SUMMARY, sealedAs } from "../fakes/summaries.ts";
import { SummaryNode } from "../fakes/summary-node.ts";

const KINDS_OF = [KIND.SERVICE, KIND.TOPIC];
const BANDS = [BAND.HEALTHY, BAND.DEGRADED, BAND.CRITICAL];

function versionOf(key: number, version: number): Summary {
  const channel = key % 3 === 0 ? SCOPE.ZONE : SCOPE.GLOBAL;
  const kind = KINDS_OF[key % KINDS_OF.length] ?? KIND.SERVICE;
  return { ...SUMMARY, serviceId: `s${key}`, kind, channel, version, band: BANDS[version % BANDS.length] ?? BAND.HEALTHY };
}

test("whatever the order in which versions and frames arrive, every node sees the highest version of each key, as it was signed", () => {
  const [KEYS, NODES] = [4, 3];
  const taken = fc.record({ node: fc.nat(NODES - 1), key: fc.nat(KEYS - 1), version: fc.integer({ min: 1, max: 12 }) });
  const told = fc.record({ node: fc.nat(NODES - 1), to: fc.nat(NODES - 1), after: fc.nat(9) });
  const steps = fc.array(fc.oneof(taken, told), { minLength: 1, maxLength: 40, size: "max" });
  fc.assert(
    fc.property(steps, (all) => {
      const nodes = [new SummaryNode("a"), new SummaryNode("b"), new SummaryNode("c", "eu-2")];
      const highest = new Map<number, number>();
      for (const step of all) {
        const node = nodes[step.node];
        if (node === undefined) continue;
        if ("version" in step) {
          // Nobody outside a cluster gets what is for the cluster.
          if (step.node === 2 && step.key % 3 === 0) continue;
          node.take(versionOf(step.key, step.version));
          highest.set(step.key, Math.max(highest.get(step.key) ?? 0, step.version));
        } else {
          const to = nodes[step.to];
          if (to !== undefined && to !== node) to.hear(node.frame(to, Math.min(step.after, node.replica.self.through)), node);
        }
      }
      for (const to of nodes) for (const from of nodes) if (to !== from) to.hearAll(from);
      for (const [key, version] of highest) {
        const want = versionOf(key, version);
        for (const node of nodes)
          expect(node.seen(want)).toEqual(want.channel === SCOPE.ZONE && node.clusterId !== "eu-1" ? undefined : want);
      }
    }),
    { numRuns: runs(100) },
  );
});

test("summaries, beacons and announcements stand apart, with the place of their source as it is configured", () => {
  const [node, other] = [new SummaryNode("a"), new SummaryNode("c", "eu-2")];
  node.put("summary", encodeSummary({ ...SUMMARY, band: BAND.CRITICAL }));
  node.put("beacon", encodeBeacon({ ...BEACON, source: "us-1", region: "eu" }));
  node.put("key", ANNOUNCEMENT);
  other.hearAll(node);
  const { keyId, signedBy, notBeforeWallMs } = decodeAnnouncement(ANNOUNCEMENT);
  const views = [
    other.replica.view(recordKey(SUMMARY)),
    other.replica.view(beaconKey("us-1")),
    other.replica.view(announcementKey("eu-1", keyId, signedBy)),
  ];
  expect(views).toMatchObject([
    { kind: KIND.SERVICE, namespace: "svc.shop", name: "cart", health: HEALTH.CRITICAL, hlc: SUMMARY.version, traits: { region: "eu" } },
    // It says that its region is `eu`, and nobody configured that.
    { kind: KIND.NODE, name: "us-1", hlc: BEACON.version, scope: SCOPE.GLOBAL, traits: { clusterId: "us-1", region: "" } },
    { kind: KIND.NODE, name: "eu-1", hlc: notBeforeWallMs, traits: { clusterId: "eu-1" } },
  ]);
  // A change of the band moves what filters go by, and one of the count alone does not.
  const first = node.replica.own(recordKey(SUMMARY))?.filterSeq;
  node.put("summary", encodeSummary({ ...SUMMARY, band: BAND.CRITICAL, endpointCount: 13, version: SUMMARY.version + 1 }));
  expect(node.replica.own(recordKey(SUMMARY))?.filterSeq).toBe(first);
  node.put("summary", encodeSummary({ ...SUMMARY, version: SUMMARY.version + 2 }));
  expect(node.replica.own(recordKey(SUMMARY))?.filterSeq).toBe(5);
});

test("a record with another stamp than its version is refused, so that a peer cannot put an old summary above a new one", () => {
  const [node, other] = [new SummaryNode("a"), new SummaryNode("b")];
  const entry = encodeRecord("summary", sealedAs(encodeSummary(SUMMARY)));
  const head = { seq: 1, hlc: SUMMARY.version + 1, reach: SCOPE.GLOBAL, filterSeq: 1, firstSeq: 1, principal: "" };
  const frame = { ...node.frame(other, 0), through: 1, records: [encodeReplicaRecord(head, { body: BODY.ENTRY, entry })] };
  expect(other.hear(frame, node)).toMatchObject({
    kind: "applied",
    changedCount: 0,
    refused: [{ message: `invalid_argument: hlc: ${SUMMARY.version + 1} differs from the entry's version ${SUMMARY.version}` }],
  });
});

test("more clusters than are remembered at once are read all the same", () => {
  const { stamper } = new SummaryNode("a");
  for (let i = 0; i < 1_100; i++) {
    const bytes = encodeRecord("summary", sealedAs(encodeSummary({ ...SUMMARY, source: `c${i}` })));
    expect(stamper.entryOfStored(bytes).traits.clusterId).toBe(`c${i}`);
  }
});
