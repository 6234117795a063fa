/** Who may register in the control plane's namespace of resolvers, and how much (semantics.md, Names and bounds). */
import { expect, test } from "vitest";
import { NODES_NAMESPACE, RESOLVERS_NAMESPACE } from "../../../src/catalog/entry/names.ts";
import { findRoleNamespace, isOfNodes } from "../../../src/catalog/entry/rules.ts";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { RESOLVERS_NAMESPACE as CLIENTS_NAMESPACE } from "../../../src/client/servers/server-list.ts";
import { checkControlWrites, checkPublishing } from "../../../src/discovery/registrar/write-authorization.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import { NamespaceQuotas } from "../../../src/policy/limits/quotas.ts";
import { PENDING_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { at, caller, command, Disk, draftAt, Registry, stamped } from "../../fakes/registry.ts";

const ROLE = ["mesh.resolve"];
const [ANN, BOB, ADMIN] = [caller("ann", ROLE), caller("bob", ROLE), caller("root", ["mesh.admin"])];
const MAX = findRoleNamespace(RESOLVERS_NAMESPACE)?.maxEntries ?? 0;
const HOUR_MS = 3_600_000;

const resolver = (id: string, metadata: Record<string, string> = {}) =>
  draftAt({ namespace: RESOLVERS_NAMESPACE, name: id, instanceId: id }, { metadata, scope: SCOPE.REGION });

/** What became of a registration: `ok`, or the reason of its refusal. */
function outcome(
  r: Registry,
  who: Caller,
  entries: Parameters<typeof command>[0],
  rest: Parameters<typeof command>[1] = {},
  ms = 0,
): string {
  try {
    r.registrar.register(who, command(entries, rest), at(ms));
    r.flush(at(ms));
    return "ok";
  } catch (error) {
    if (error instanceof WaymarkError) return error.message;
    throw error;
  }
}

test("one table says who writes in each namespace of the control plane, and the client looks where resolvers are", () => {
  expect([NODES_NAMESPACE, RESOLVERS_NAMESPACE, "discovery", "discovery.resolvers.x", "svc"].map(isOfNodes)).toEqual([
    true,
    false,
    false,
    false,
    false,
  ]);
  const open = [NODES_NAMESPACE, RESOLVERS_NAMESPACE, "discovery", "discovery.resolvers.x", "discovery.resolversx", "node", "svc"];
  expect(open.filter((namespace) => findRoleNamespace(namespace) !== undefined)).toEqual([RESOLVERS_NAMESPACE]);
  expect(CLIENTS_NAMESPACE).toBe(RESOLVERS_NAMESPACE);
});

test.each([
  { who: ANN, says: "ok" },
  { who: caller("ann"), says: "unauthenticated: entries[1].key.namespace: only callers with the role mesh.resolve" },
  { who: { ...caller("ann"), isAuthenticated: true }, says: "discovery_access_denied: entries[1].key.namespace: only callers with" },
  { who: { ...ADMIN, isAuthenticated: true }, says: "discovery_access_denied: entries[1]" },
  { who: { ...caller("ann", ["owner:discovery", "mesh.operate"]), isAuthenticated: true }, says: "discovery_access_denied: entries[1]" },
])("$who.principal with the roles $who.roles registers a resolver: $says", ({ who, says }) => {
  const r = new Registry();
  expect(outcome(r, who, [stamped("web"), resolver("edge")])).toContain(says);
  // All of a request or nothing.
  expect(r.names()).toEqual(says === "ok" ? ["edge", "web"] : []);
});

test("a caller without the role is told of in the audit", () => {
  const told: string[] = [];
  const write = { caller: ADMIN, stampedEntries: [resolver("edge")], ttlMs: 1000 };
  const check = () =>
    checkControlWrites(
      { onRefused: ({ action, reason, namespace }) => told.push(`${action} ${reason} ${namespace}`) },
      write,
      new Registry().replica,
    );
  expect(check).toThrow("unauthenticated");
  expect(told).toEqual(["register unauthenticated discovery.resolvers"]);
});

test("the entry of a resolver has a lease that ends soon", () => {
  const r = new Registry();
  expect(outcome(r, ANN, [resolver("edge")], { isStatic: true })).toContain("invalid_argument: static_lease: ");
  expect(outcome(r, ANN, [resolver("edge")], { ttlMs: HOUR_MS })).toContain("invalid_argument: ttl: must be at most 300 s");
  const lasting = r.register("ann", [stamped("web")], at(0), { isStatic: true });
  expect(outcome(r, ANN, [resolver("edge")], { leaseId: lasting })).toContain("invalid_argument: static_lease: ");
  const leaseId = r.register("ann", [stamped("api")], at(0));
  expect(outcome(r, ANN, [resolver("edge")], { leaseId })).toBe("ok");
  r.registrar.tick(at(31_000));
  r.flush(at(31_000));
  expect(r.names()).toEqual(["web"]);
});

test("the entry of a resolver is small", () => {
  const metadata = Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`k${i}`, "x".repeat(1024)]));
  expect(outcome(new Registry(), ANN, [resolver("edge", metadata)])).toContain("invalid_argument: entries[0]: has ");
});

test(`a principal has at most ${MAX} resolvers, what is on its way to the disk included, and what has ended is not counted`, () => {
  const r = new Registry();
  const [first = resolver("r0"), ...rest] = Array.from({ length: MAX }, (_, i) => resolver(`r${i}`));
  const { leaseId } = r.registrar.register(ANN, command([first]), at(0));
  r.registrar.register(ANN, command(rest), at(0));
  const one = [resolver("more")];
  expect(() => r.registrar.register(ANN, command(one), at(0))).toThrow(`quota_exceeded: the principal "ann" has ${MAX} entries`);
  r.flush(at(0));
  expect(outcome(r, ANN, one)).toContain("quota_exceeded");
  expect(outcome(r, BOB, one)).toBe("ok");
  expect(outcome(r, ANN, [resolver("r1", { waymark: "new" })])).toBe("ok");
  r.registrar.unregisterLease(ANN, leaseId, at(1));
  expect(() => r.registrar.register(ANN, command([resolver("a"), resolver("b")]), at(1))).toThrow("quota_exceeded");
  expect(outcome(r, ANN, [resolver("a")])).toBe("ok");
});

test("an id belongs to the principal that holds it, until its lease has run out: here, after a restart, and from another node", () => {
  const disk = new Disk();
  const r = new Registry(disk);
  const taken = "discovery_access_denied: entries[0].key: is registered by another principal";
  expect(outcome(r, ANN, [resolver("edge")])).toBe("ok");
  expect(outcome(r, BOB, [resolver("edge")])).toBe(taken);
  expect(outcome(r, caller("root", [...ROLE, "mesh.admin"]), [resolver("edge")])).toBe(taken);
  expect(() => r.registrar.unregisterKeys(ADMIN, [resolver("edge").key], at(0))).toThrow("discovery_access_denied");
  const again = new Registry(disk);
  expect(outcome(again, BOB, [resolver("edge")])).toBe(taken);
  again.registrar.tick(at(31_000));
  again.flush(at(31_000));
  expect(outcome(again, BOB, [resolver("edge")], {}, 31_000)).toBe("ok");
  expect(outcome(again, ANN, [resolver("edge")], {}, 31_000)).toBe(taken);
  // The fake's other node tells of entries of ann's.
  again.receive(resolver("far"), { body: BODY.ENTRY, hlcMs: 0, nodeId: "b" }, at(31_000));
  expect(outcome(again, BOB, [resolver("far")], {}, 31_000)).toBe(taken);
  expect(outcome(again, ANN, [resolver("far")], {}, 31_000)).toBe("ok");
});

test.each([
  { what: "a policy that allows nothing", policy: new Policy({ version: "v1", defaultAllow: false, rules: [] }, 1) },
  { what: "a policy that is awaited", policy: PENDING_POLICY },
])("$what hinders no resolver", ({ policy }) => {
  const fail = () => expect.unreachable();
  const publishing = { source: { clusterId: "c1", region: "r1" }, policies: { policy }, onRefused: fail, onDenied: fail };
  expect(() => checkPublishing(publishing, ANN, resolver("edge"), 0)).not.toThrow();
});

test("a quota of one entry for all namespaces and tenants hinders no resolver", () => {
  const ONE = { entries: 1, watches: 1, bytes: 1 };
  const quotas = ({ lookup }: Registry["replica"]) =>
    new NamespaceQuotas({
      namespaceQuota: () => ONE,
      tenantQuota: () => ONE,
      namespaceUsage: (namespace) => lookup.namespaceUsage(namespace),
      tenantUsage: (tenant) => lookup.tenantUsage(tenant),
      sees: () => true,
      isSet: () => true,
      onRefusal: () => undefined,
    });
  const r = new Registry(new Disk(), quotas);
  expect(outcome(r, ANN, [resolver("edge"), resolver("core")])).toBe("ok");
  expect(outcome(r, ANN, [stamped("web")])).toContain("quota_exceeded");
});
