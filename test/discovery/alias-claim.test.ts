/** Which names an alias may take, and from whom. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { BODY, HEALTH } from "../../src/catalog/record/record.ts";
import { applyMarks, ownMarked } from "../../src/catalog/replica/lost-marks.ts";
import { claimantOf, claimOf, isRightful, isSingleLabel, type ParsedAliasClaim, readClaimant } from "../../src/discovery/alias-claim.ts";
import { DnsNames } from "../../src/discovery/dns-names.ts";
import { NO_POLICY, Policy } from "../../src/policy/set/verdict.ts";
import { rule, set } from "../fakes/policies.ts";
import { at, caller, keyOf, Registry, stamped } from "../fakes/registry.ts";

const OWNED = new Policy(
  set([rule("svc.bank", { owners: ["bank"] }), rule("svc.shop", { visibilityTenants: ["shop"] }), rule("api.svc", { owners: ["other"] })], {
    defaultAllow: true,
  }),
  1,
);
const MINE: ParsedAliasClaim = {
  namespace: "svc.evil",
  name: "",
  scope: SCOPE.REGION,
  clusterId: "c1",
  region: "r1",
  tenant: "evil",
  isAdmins: false,
};

test.each([
  ["web.svc.evil", true],
  ["web.svc.bank", false],
  ["i1.web.svc.bank", false],
  ["svc.bank", false],
  ["www.example.com", true],
  ["web.svc.shop", false],
  // The namespace api.svc is another's, also where the name would be in one that is free.
  ["api.svc", false],
  ["x.discovery.nodes", false],
  ["n1.node", false],
])("%s is c1's to claim: %s", (name, isAllowed) => {
  expect(isRightful(OWNED, { ...MINE, name }, "c1")).toBe(isAllowed);
  const isReserved = name.startsWith("x.discovery") || name.endsWith(".node");
  expect(isRightful(NO_POLICY, { ...MINE, name }, "c1")).toBe(!isReserved);
});

test("the owner, a tenant that sees it, and an entry that stays in its own cluster may claim", () => {
  expect(isRightful(OWNED, { ...MINE, name: "web.svc.bank", clusterId: "bank" }, "c1")).toBe(true);
  expect(isRightful(OWNED, { ...MINE, name: "web.svc.shop", tenant: "shop" }, "c1")).toBe(true);
  expect(isRightful(OWNED, { ...MINE, name: "web.svc.bank", scope: SCOPE.ZONE }, "c1")).toBe(true);
  expect(isRightful(OWNED, { ...MINE, name: "web.svc.bank", scope: SCOPE.ZONE }, "bank")).toBe(false);
});

test("where the default denies, the name's namespace needs a rule, and what is above it none", () => {
  const closed = new Policy(set([rule("svc.evil", {})]), 1);
  expect(isRightful(closed, { ...MINE, name: "web.svc.evil" }, "c1")).toBe(true);
  expect(isRightful(closed, { ...MINE, name: "web.svc.bank" }, "c1")).toBe(false);
});

test("a claim is the asked name and what the record says, of which what it says of the registrant can be read back", () => {
  const r = new Registry();
  r.register("ann", [stamped("web", { aliases: ["Api.svc.bank.waymark."] })], at(0));
  const record = r.replica.view(keyOf("web"))!;
  const claim = claimOf(record, "api.svc.bank");
  const claimant = { scope: record.scope, clusterId: "c1", region: "r1", tenant: "", isAdmins: false };
  expect(claim).toEqual({ namespace: "svc", name: "api.svc.bank", ...claimant });
  expect(readClaimant(claimantOf(record))).toEqual(claimant);
  const zones = ["waymark", "corp", "eu.corp"];
  expect(["pay", "pay.waymark", "pay.eu.corp", "pay.svc"].map((alias) => isSingleLabel(alias, zones))).toEqual([true, true, true, false]);
});

test("a single label counts only where its registrant was an admin, and then as any other alias does", () => {
  const taken = new Policy(set([rule("pay", { owners: ["bank"] })], { defaultAllow: true }), 1);
  const [plain, admins] = [MINE, { ...MINE, isAdmins: true }];
  for (const policy of [NO_POLICY, OWNED]) {
    expect(isRightful(policy, { ...plain, name: "pay" }, "c1")).toBe(false);
    expect(isRightful(policy, { ...admins, name: "pay" }, "c1")).toBe(true);
    expect(isRightful(policy, { ...admins, name: "node" }, "c1")).toBe(false);
  }
  expect(isRightful(OWNED, { ...admins, name: "web.svc.bank" }, "c1")).toBe(false);
  expect(isRightful(taken, { ...admins, name: "pay" }, "c1")).toBe(false);
});

/** Who answers to `pay` and `root` at this node, judged from what it holds. */
function holders({ replica }: Registry): readonly (readonly string[])[] {
  const names = new DnsNames(replica, ["waymark"]);
  names.refresh();
  const view = { sees: () => true, counts: (claim: ParsedAliasClaim) => isRightful(NO_POLICY, claim, "c1") };
  expect(["pay", "root"].map((alias) => names.hasNameUnder(alias, "waymark", view))).toEqual([true, false]);
  return ["pay", "root"].map((alias) => names.findAlias(alias, "waymark", view).records.map(({ name }) => name));
}

test("that an admin registered it stays through a health report, a restart, a mark and a renewal, and is not to be had otherwise", () => {
  const r = new Registry();
  const mine = [stamped("web", { aliases: ["pay"] }, true), stamped("evil", { aliases: ["pay", "root"], registeredByAdmin: true })];
  const lease = r.register("ann", mine, at(0));
  r.flush(at(0));
  const want = [["web"], []];
  expect(holders(r)).toEqual(want);
  r.registrar.renew(caller("ann"), [], [{ key: keyOf("web"), path: "reports[0]", health: HEALTH.CRITICAL, load: undefined }], at(10));
  r.flush(at(10));
  expect(holders(r)).toEqual(want);
  r.restart(at(20));
  expect(holders(r)).toEqual(want);
  const { nodeId, generation, through } = r.replica.self;
  r.replica.lost.note({ nodeId, generation, through, mark: through + 5 });
  applyMarks(r.replica);
  r.replica.sweep(Number.POSITIVE_INFINITY, at(30));
  const hidden = ownMarked(r.replica).storedRecords.map(({ key }) => key);
  r.registrar.entryRemovals.superseded(hidden, at(30));
  r.flush(at(30));
  r.registrar.renew(caller("ann"), [lease], [], at(40));
  r.flush(at(40));
  expect(holders(r)).toEqual(want);
});

test("it stays where another node takes the entry over", () => {
  const r = new Registry();
  for (const [name, isAdmins] of [
    ["web", true],
    ["evil", false],
  ] as const)
    r.receive(
      stamped(name, { aliases: ["pay", ...(isAdmins ? [] : ["root"])] }, isAdmins),
      { body: BODY.ENTRY, hlcMs: 10, nodeId: "b" },
      at(10),
    );
  expect(r.registrar.handOver.take({ nodeId: "b", generation: 1 }, [1, 2], at(20))).toBe(2);
  r.flush(at(20));
  expect(r.replica.view(keyOf("web"))?.origin.nodeId).toBe("a");
  expect(holders(r)).toEqual([["web"], []]);
  expect(holders(r.twin())).toEqual([["web"], []]);
});
