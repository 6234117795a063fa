/** Each finding of a node, from the facts that cause it. */
import { expect, test } from "vitest";
import { differing, findingsOf, leaderOf, type NodeFacts } from "../../../src/node/findings/findings.ts";

const DAY_MS = 86_400_000;
const NOW = Date.parse("2026-11-30T12:00:00Z");

const FINE: NodeFacts = {
  nodeId: "eu-1",
  version: "1.0.0",
  wallMs: NOW,
  faults: [],
  lag: { ageMs: 1000, isProtected: false, origins: [] },
  store: { kind: "etcd", ageMs: 0, fault: "" },
  leader: "eu-2",
  certificates: [{ setting: "tls.cert_file", endWallMs: NOW + 30 * DAY_MS, lifeMs: 90 * DAY_MS, isRenewed: false }],
  issuerEndWallMs: NOW + 31 * DAY_MS,
  followAgeMs: 299_000,
  policyFault: "",
  journalFault: "",
  auditFault: "",
  record: { desired: "active", desiredWallMs: NOW - 3 * DAY_MS, desiredReason: "disks are in" },
  drain: undefined,
  configDigest: "d1",
  peers: [
    { nodeId: "eu-2", status: "alive", version: "1.0.0", configDigest: "d1" },
    { nodeId: "eu-3", status: "left", version: "1.0.0", configDigest: "d9" },
  ],
};
const ORIGIN = { nodeId: "eu-2", generation: 1, life: "live", through: 1, known: 1, floor: 0, refused: 0, whyPartial: "" } as const;
const peer = { nodeId: "eu-4", status: "alive", version: "1.0.0", configDigest: "d1" } as const;
const certificate = (endWallMs: number, lifeMs = 90 * DAY_MS, isRenewed = false) => [
  { setting: "fabric.cert_file", endWallMs, lifeMs, isRenewed },
];
const HOUR_MS = 3_600_000;

test("a node without faults, or before its first data, has no findings", () => {
  expect(findingsOf({ ...FINE, lag: { ...FINE.lag, ageMs: NOW } })).toEqual([]);
  expect(findingsOf(FINE)).toEqual([]);
});

test.each<[string, Partial<NodeFacts>, string]>([
  ["critical not_ready eu-1", { faults: [{ name: "clock", detail: "3 s ahead" }] }, "clock: 3 s ahead"],
  ["critical split_brain eu-1", { store: { ...FINE.store, fault: "split brain: eu-2 uses s2" } }, "split brain: eu-2 uses s2"],
  ["critical journal_failing eu-1", { journalFault: "disk full" }, "disk full"],
  ["critical policy_fault eu-1", { policyFault: "version 3 cannot be read" }, "version 3 cannot be read"],
  ["critical certificate_expired eu-1", { certificates: certificate(NOW - 1) }, "fabric.cert_file ends at 2026-11-30T11:59:59.999Z"],
  ["warning certificate_ends eu-1", { certificates: certificate(NOW + DAY_MS) }, "fabric.cert_file ends at 2026-12-01T12:00:00.000Z"],
  ["warning renewal_late eu-1", { certificates: certificate(NOW + 6 * HOUR_MS - 1, DAY_MS, true) }, "ends at 2026-11-30T17:59:59.999Z"],
  ["warning issuer_ends eu-1", { issuerEndWallMs: NOW + 30 * DAY_MS - 1 }, "its issuing certificate ends at 2026-12-30T11:59:59.999Z"],
  ["warning issuer_not_followed eu-1", { followAgeMs: 301_000 }, "was last confirmed 301s ago"],
  [
    "warning store_unavailable eu-1",
    { store: { ...FINE.store, ageMs: 19_471, fault: "etcd is down" } },
    "has not answered for 19s: etcd is down",
  ],
  ["warning no_leader eu-1", { leader: "" }, "no node leads global-control"],
  ["warning behind eu-1", { lag: { ...FINE.lag, ageMs: 59_801 } }, "its data may be 1m old"],
  [
    "warning incomplete eu-1",
    { lag: { ...FINE.lag, origins: [{ ...ORIGIN, whyPartial: "limit" }] } },
    "entries of eu-2 are missing: limit",
  ],
  ["warning entries_protected eu-1", { lag: { ...FINE.lag, isProtected: true } }, "their entries are kept visible"],
  ["warning audit_failing eu-1", { auditFault: "the disk refuses records" }, "the disk refuses records"],
  [
    "warning drain_stuck eu-1",
    { drain: { step: "leases", sinceMs: NOW, isStuck: true, left: [{ kind: "leases", count: 12 }] } },
    "step leases: 12 leases left",
  ],
  [
    "warning cordoned_long eu-1",
    { record: { desired: "cordoned", desiredWallMs: NOW - 2 * DAY_MS, desiredReason: "new disks" } },
    "cordoned since 2026-11-28T12:00:00.000Z: new disks",
  ],
  ["warning peer_dead eu-4", { peers: [{ ...peer, status: "dead" }] }, "was declared dead"],
  ["warning peer_suspect eu-4", { peers: [{ ...peer, status: "suspect" }] }, "does not answer probes"],
  ["warning settings_differ eu-4", { peers: [{ ...peer, configDigest: "d2" }] }, "differ from the settings of eu-1"],
])("%s", (expected, facts, evidence) => {
  const found = findingsOf({ ...FINE, ...facts });
  expect(found.map(({ id, severity, subject }) => `${severity} ${id} ${subject}`)).toEqual([expected]);
  expect(found[0]?.evidence).toContain(evidence);
  expect(found[0]?.command).toMatch(/^waymark [a-z ]+/);
  expect(found[0]?.command).not.toContain("%");
});

test("settings of another version, of a node that is not alive, and of a node that does not announce them are not compared", () => {
  const peers = [
    { ...peer, configDigest: "d2", version: "1.1.0" },
    { ...peer, configDigest: "d2", status: "left" as const },
    { ...peer, configDigest: "" },
  ];
  expect(findingsOf({ ...FINE, peers })).toEqual([]);
});

test.each([
  { own: "d1", others: ["d1", "d2"], named: ["n1"] },
  { own: "d2", others: ["d1", "d1"], named: [] },
  { own: "d1", others: ["d1", "d2", "d2"], named: ["n1", "n2"] },
  { own: "d1", others: ["d2", "d3"], named: ["n0", "n1"] },
])("with $own here and $others on the others, the nodes with the rarest settings are named: $named", ({ own, others, named }) => {
  const peers = others.map((configDigest, i) => ({ ...peer, nodeId: `n${i}`, configDigest }));
  const facts = { ...FINE, configDigest: own, peers: [...peers, { ...peer, configDigest: "d2", status: "dead" as const }] };
  const found = findingsOf(facts).filter(({ id }) => id === "settings_differ");
  expect(found.map(({ subject }) => subject)).toEqual(named);
  // The metric counts all of them.
  expect(differing(facts).length).toBe(others.filter((digest) => digest !== own).length);
});

test("the most severe findings come first", () => {
  const found = findingsOf({ ...FINE, peers: [{ ...peer, status: "dead" }], journalFault: "disk full" });
  expect(found.map(({ id }) => id)).toEqual(["journal_failing", "peer_dead"]);
});

test("a leader is named until it resigns, or until its session has ended by the clock", () => {
  const held = { session: "eu-2/1", nodeId: "eu-2" };
  expect([leaderOf(held, 5000, 4999), leaderOf(held, undefined, 9000)]).toEqual(["eu-2", "eu-2"]);
  expect([leaderOf(held, 5000, 5000), leaderOf({ ...held, session: "" }, undefined, 0)]).toEqual(["", ""]);
  expect(leaderOf(undefined, undefined, 0)).toBe("");
});

test("a certificate of a day that comes from a file is reported in the last third of its life, and one that the node renews in the last quarter", () => {
  const leftMs = [DAY_MS / 2, DAY_MS / 3, DAY_MS / 3 - 1];
  const found = leftMs.map((each) => findingsOf({ ...FINE, certificates: certificate(NOW + each, DAY_MS) }).length);
  expect(found).toEqual([0, 0, 1]);
  const late = [DAY_MS / 3, DAY_MS / 4, DAY_MS / 4 - 1].map(
    (each) => findingsOf({ ...FINE, certificates: certificate(NOW + each, DAY_MS, true) }).length,
  );
  expect(late).toEqual([0, 0, 1]);
});

test("the command of a certificate's finding shows the setting and the end", () => {
  const found = [NOW - 1, NOW + 1].flatMap((endWallMs) => findingsOf({ ...FINE, certificates: certificate(endWallMs) }));
  expect(found.map(({ command }) => command)).toEqual(["waymark status -o wide", "waymark status -o wide"]);
});
