/** When a node with an open fabric starts, stands alone or refuses a policy. */
import { expect, test } from "vitest";
import type { Settings } from "../../../src/config/settings.ts";
import type { Fabric } from "../../../src/fabric/fabric.ts";
import { chooseFabric, FabricGuard, hasAdopted } from "../../../src/node/core/open-fabric.ts";
import { HISTORY_BOUNDS, PolicyEngine } from "../../../src/policy/versions/engine.ts";
import { SETTINGS } from "../../fakes/options.ts";

const NO_POLICY = new PolicyEngine({ nodeId: "a", clusterId: "c1", ...HISTORY_BOUNDS });
const A_POLICY = { newestNumber: 1, status: NO_POLICY.status };
const FABRIC = SETTINGS.fabric;
const JOINING: Settings = { ...SETTINGS, fabric: { ...FABRIC, seeds: ["b:1"] } };
const PROTECTED: Settings = { ...SETTINGS, tenants: { ...SETTINGS.tenants, mode: true } };

test("an open fabric runs where nothing protects the node, and a closed one runs always", () => {
  expect(chooseFabric(SETTINGS, NO_POLICY, true)).toEqual({ kind: "joined" });
  const closed = { ...PROTECTED, fabric: { ...FABRIC, clusterTokenFile: "/token", seeds: ["b:1"] } };
  expect(chooseFabric(closed, A_POLICY, true)).toEqual({ kind: "joined" });
  expect(chooseFabric({ ...SETTINGS, fabric: { ...FABRIC, enabled: false } }, NO_POLICY, true)).toMatchObject({
    kind: "alone",
    detail: "standalone: fabric.enabled is off",
  });
});

test.each([
  { what: "a setting", settings: PROTECTED, policies: NO_POLICY, names: "tenants.mode" },
  { what: "a stored policy", settings: SETTINGS, policies: A_POLICY, names: "a stored policy" },
])("where $what protects the node, it stands alone if there never were others, and does not start if there were, or are to be", (row) => {
  const choice = chooseFabric(row.settings, row.policies, false);
  expect(choice.kind === "alone" && choice.detail.includes(row.names)).toBe(true);
  expect(() => chooseFabric(row.settings, row.policies, true)).toThrow(`${row.names} protects this node`);
  const joining = { ...row.settings, fabric: { ...FABRIC, seeds: ["b:1"] } };
  expect(() => chooseFabric(joining, row.policies, false)).toThrow(`${row.names} protects this node`);
});

function guardOf({ settings = SETTINGS, isMarked = false, isShown = false, peers = 0 }) {
  const policies = { newestNumber: 0, status: NO_POLICY.status };
  const seal = { isClosed: false };
  // Of a whole fabric only these are read.
  const fabric = { seal, links: () => [], membership: { members: () => Array.from({ length: 1 + peers }) } } as unknown as Fabric;
  const guard = new FabricGuard({ settings, policies, nodeId: "a", isMarked });
  if (isShown) guard.shown();
  return { guard, policies, seal, fabric };
}

test.each([
  { what: "that has a peer", given: { peers: 1 } },
  { what: "that had one", given: { isMarked: true } },
  { what: "whose directory is from before the mark and shows that it had one", given: { isShown: true } },
  { what: "that is to join others", given: { settings: JOINING } },
])("a node $what stores no policy while its fabric is open", ({ given }) => {
  const { guard, fabric, seal } = guardOf(given);
  expect(() => guard.secure(fabric)).toThrow("has neither token nor certificates");
  expect(seal.isClosed).toBe(false);
});

test("from the first policy on nobody gets into an open fabric, unless none of those under way is stored", () => {
  const { guard, fabric, seal, policies } = guardOf({});
  const [first, second] = [guard.secure(fabric), guard.secure(fabric)];
  first();
  expect(seal.isClosed).toBe(true);
  second();
  expect(seal.isClosed).toBe(false);
  const third = guard.secure(fabric);
  policies.newestNumber = 1;
  third();
  expect(seal.isClosed).toBe(true);
});

test("a closed fabric, and none at all, need no guard", () => {
  const { guard, fabric, seal } = guardOf({
    settings: { ...SETTINGS, fabric: { ...FABRIC, certFile: "/cert", seeds: ["b:1"] } },
    peers: 3,
  });
  guard.secure(fabric)();
  guard.secure(undefined)();
  expect(seal.isClosed).toBe(false);
});

test("the first other member is to be noted, once", () => {
  const { guard } = guardOf({});
  expect([guard.note("a"), guard.note("b"), guard.note("c")]).toEqual([false, true, false]);
  expect(guardOf({ isMarked: true }).guard.note("b")).toBe(false);
  // A directory from before the mark gets it.
  expect(guardOf({ isShown: true }).guard.note("b")).toBe(true);
});

test.each([
  { what: "that expects no others", given: {}, isToMeetOthers: false },
  { what: "that is to join others for the first time", given: { settings: JOINING }, isToMeetOthers: true },
  { what: "that was among others before", given: { settings: JOINING, isMarked: true }, isToMeetOthers: false },
])("a node $what is to meet its first: $isToMeetOthers", ({ given, isToMeetOthers }) => {
  expect(guardOf(given).guard.isToMeetOthers).toBe(isToMeetOthers);
});

test("a version of another node shows that there was a peer; one of this node does not", () => {
  const of = (nodeId: string) => ({ history: () => [{ facts: { nodeId } }] }) as unknown as PolicyEngine;
  expect([hasAdopted(of("b"), "a"), hasAdopted(of("a"), "a"), hasAdopted(NO_POLICY, "a")]).toEqual([true, false, false]);
});
