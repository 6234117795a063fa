/** Whom the settings let in, what would let others in, and what is remembered of them. */
import { expect, test } from "vitest";
import type { FabricOutput } from "../../../src/fabric/io-types.ts";
import { ForeignPeers, type PeerAuthSettings } from "../../../src/fabric/links/foreign-peers.ts";

const HERE = { clusterId: "c1", region: "r1" };
const STRICT: PeerAuthSettings = { mode: "strict", clusters: ["c2"], hasCertificates: true };

function foreignPeers(settings: Partial<PeerAuthSettings>, isMember: (nodeId: string) => boolean = () => false): ForeignPeers {
  return new ForeignPeers(HERE, { ...STRICT, ...settings }, isMember);
}

const LIST = 'fabric.clusters = ["c2","c9"]';

test.each<{ what: string; settings: Partial<PeerAuthSettings>; listed: string | undefined; other: string | undefined }>([
  { what: "strict with certificates", settings: {}, listed: undefined, other: LIST },
  {
    what: "strict without certificates",
    settings: { hasCertificates: false },
    listed: 'fabric.trust = "explicit" and fabric.clusters = ["c2"]',
    other: `fabric.trust = "explicit" and ${LIST}`,
  },
  { what: "explicit", settings: { mode: "explicit", hasCertificates: false }, listed: undefined, other: LIST },
  { what: "permissive", settings: { mode: "permissive", hasCertificates: false }, listed: undefined, other: undefined },
])("$what: own cluster always, a listed one and another as the settings say; nobody of another region", ({ settings, listed, other }) => {
  const rules = foreignPeers(settings);
  expect(rules.refusalOf(HERE)).toBeUndefined();
  for (const [clusterId, want] of [
    ["c2", listed],
    ["c9", other],
  ] as const) {
    const refusal = rules.refusalOf({ clusterId, region: "r1" });
    expect(refusal?.reason).toBe(want === undefined ? undefined : "wrong_cluster");
    if (want !== undefined) expect(refusal?.detail.endsWith(`to admit it, set ${want}`)).toBe(true);
  }
  expect(rules.refusalOf({ clusterId: "c2", region: "r2" })?.reason).toBe("other_region");
  expect(rules.refusalOf({ clusterId: "c1", region: "r2" })?.reason).toBe("wrong_cluster");
});

test("a foreign node is remembered until it is a member, its place is news once; of a member nobody makes a foreign one", () => {
  const members = new Set(["m"]);
  const rules = foreignPeers({}, (nodeId) => members.has(nodeId));
  const there = { clusterId: "c9", region: "r1" };
  expect([rules.note("z", there), rules.note("y", there), rules.note("m", there)]).toEqual([true, false, false]);
  expect([rules.has("z"), rules.has("y"), rules.has("m"), rules.size]).toEqual([true, true, false, 2]);
  members.add("z");
  expect([rules.has("z"), rules.forget("z"), rules.forget("z")]).toEqual([false, true, false]);
  for (let i = 0; i < 10_050; i++) rules.note(`n${i}`, there);
  expect([rules.size, rules.has("y"), rules.has("n10049")]).toEqual([10_000, false, true]);
});

test("what only permissive lets in is counted, and told once a cluster", () => {
  const rules = foreignPeers({ mode: "permissive" });
  const out: FabricOutput[] = [];
  for (const clusterId of ["c1", "c2", "c9", "c9"]) rules.admitted({ nodeId: "z", clusterId }, out);
  expect([rules.admittedCount, out.length]).toEqual([2, 1]);
  expect(JSON.stringify(out)).toContain("foreign_cluster_admitted");
});
