import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  CatalogQueryRequestSchema,
  CatalogWatchRequestSchema,
  DiscoveryService,
  RegisterRequestSchema,
  UnregisterRequestSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { NodeLimits, type NodeLimitsOptions, nodeSharedLimits } from "../../src/node/limits.ts";
import type { AuditEvent } from "../../src/policy/audit/record.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import { sharedBuckets } from "../../src/policy/limits/shared-limits.ts";
import type { NamespaceRule } from "../../src/policy/set/rules.ts";
import { Policy } from "../../src/policy/set/verdict.ts";
import { admitted } from "../../src/services/admission.ts";
import type { CallContext, MethodHandler, ServiceDefinition, StreamSource } from "../../src/services/service.ts";
import { HASH_KEY } from "../fakes/bucket-forms.ts";

const RULE: NamespaceRule = {
  pattern: "hidden",
  owners: [],
  visibility: ["nobody"],
  visibilityTenants: [],
  exportScopes: [],
  allowSummaries: false,
  cutoverWindows: [],
  policyVersion: "",
  priority: 0,
  quota: { entries: 0, watches: 1, bytes: 0 },
};

/** A service whose handlers only count, behind the limits of these settings. */
function limited(
  env: Readonly<Record<string, string>>,
  rules: readonly NamespaceRule[] = [],
  more: Pick<NodeLimitsOptions, "audit" | "makeBuckets" | "watches"> = {},
) {
  const loaded = loadConfig({ env, flags: new Map() });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  const { settings } = loaded.effective;
  const policy = new Policy(rules.length === 0 ? undefined : { version: "", defaultAllow: true, rules }, rules.length);
  const metrics = new Metrics();
  const clock = { monoMs: 0, wallMs: 0 };
  const limits = new NodeLimits({ settings, metrics, policies: { policy }, lookup: new EntryIndex(), now: () => clock, ...more });
  const calls: string[] = [];
  const unary = (name: string): MethodHandler => ({
    kind: "unary",
    handle: () => {
      calls.push(name);
      return new Uint8Array();
    },
  });
  const source: StreamSource = { attach: () => calls.push("attach"), pull: () => new Uint8Array([1]), close: () => calls.push("close") };
  const handlers = {
    ...Object.fromEntries(["register", "unregister", "catalogQuery", "resolve", "serverInfo"].map((name) => [name, unary(name)])),
    catalogWatch: {
      kind: "server_streaming",
      open: (request: { cursor: string }) => {
        if (request.cursor === "bad") throw new Error("bad cursor");
        return source;
      },
    } satisfies MethodHandler,
  };
  const service: ServiceDefinition = { desc: DiscoveryService, handlers };
  return { limits, calls, service, metrics, settings, clock, wrapped: admitted(service, limits.admission) };
}

const CONTEXT: CallContext = { caller: anonymousCaller("local", "192.0.2.1"), time: { monoMs: 0, wallMs: 0 }, requestId: "r" };

function call({ handlers }: ServiceDefinition, name: string, request: object): unknown {
  const handler = handlers[name];
  if (handler?.kind === "unary") return handler.handle(request as never, CONTEXT);
  if (handler?.kind === "server_streaming") return handler.open(request as never, CONTEXT);
  throw new Error(`no handler ${name}`);
}

const query = (fields: object) => create(CatalogQueryRequestSchema, fields);
const watch = (fields: object) => create(CatalogWatchRequestSchema, fields);
const register = (...namespaces: string[]) =>
  create(RegisterRequestSchema, { entries: namespaces.map((namespace) => ({ key: { namespace } })) });

test("where nothing is limited the handlers are the service's own, and watches its own sources", () => {
  const { service, wrapped, limits } = limited({});
  expect(limits.admit).toBeUndefined();
  for (const name of ["register", "unregister", "catalogQuery", "resolve", "serverInfo"])
    expect(wrapped.handlers[name]).toBe(service.handlers[name]);
  expect(call(wrapped, "catalogWatch", watch({ namespace: "svc" }))).toBe(call(service, "catalogWatch", watch({ namespace: "svc" })));
});

test("a namespace's reads are one allowance, by name and by prefix", () => {
  const { wrapped, calls } = limited({ WAYMARK_LIMITS__NAMESPACE_READS_PER_MINUTE: "2" });
  call(wrapped, "catalogQuery", query({ namespace: "svc" }));
  call(wrapped, "catalogQuery", query({ namespacePrefix: "svc" }));
  expect(() => call(wrapped, "catalogQuery", query({ namespace: "svc" }))).toThrow('namespace "svc" has a limit of 2 reads per minute');
  expect(() => call(wrapped, "catalogWatch", watch({ namespace: "svc" }))).toThrow("discovery_rate_limited");
  call(wrapped, "catalogQuery", query({ namespace: "svc.other" }));
  call(wrapped, "serverInfo", {});
  expect(calls).toEqual(["catalogQuery", "catalogQuery", "catalogQuery", "serverInfo"]);
});

test("a request over several namespaces needs a token of each, and keys count as entries do", () => {
  const { wrapped } = limited({ WAYMARK_LIMITS__NAMESPACE_WRITES_PER_MINUTE: "1" });
  call(wrapped, "register", register("a", "b", "a"));
  expect(() => call(wrapped, "register", register("c", "b"))).toThrow('namespace "b" has a limit of 1 writes per minute');
  call(wrapped, "unregister", create(UnregisterRequestSchema, { keys: [{ namespace: "c" }] }));
  expect(() => call(wrapped, "unregister", create(UnregisterRequestSchema, { keys: [{ namespace: "c" }] }))).toThrow(
    "discovery_rate_limited",
  );
});

test("names that are none, however long, are left to the handler and not remembered", () => {
  const { wrapped, calls } = limited({ WAYMARK_LIMITS__NAMESPACE_READS_PER_MINUTE: "1" });
  for (const namespace of ["", "UPPER", "x".repeat(1_000_000), "a..b"])
    for (let i = 0; i < 3; i++) call(wrapped, "catalogQuery", query({ namespace }));
  expect(calls).toHaveLength(12);
});

test("a namespace hidden from a caller has no bucket for its reads, and no count of watches", () => {
  const { wrapped, calls } = limited({ WAYMARK_LIMITS__NAMESPACE_READS_PER_MINUTE: "1" }, [RULE]);
  for (let i = 0; i < 5; i++) call(wrapped, "catalogQuery", query({ namespace: "hidden" }));
  for (let i = 0; i < 5; i++) call(wrapped, "catalogWatch", watch({ namespace: "hidden" }));
  expect(calls).toHaveLength(5);
});

test("a watch that does not open is not counted, one that closes is counted no more, and what it pulls is the source's", () => {
  const { wrapped, calls } = limited({ WAYMARK_LIMITS__WATCHES: "1" });
  expect(() => call(wrapped, "catalogWatch", watch({ cursor: "bad" }))).toThrow("bad cursor");
  const source = call(wrapped, "catalogWatch", watch({})) as StreamSource;
  expect(() => call(wrapped, "catalogWatch", watch({}))).toThrow("this address has a limit of 1 open watches");
  source.attach(
    () => undefined,
    () => undefined,
  );
  expect(source.pull(CONTEXT.time)).toEqual(new Uint8Array([1]));
  source.close();
  call(wrapped, "catalogWatch", watch({}));
  expect(calls).toEqual(["attach", "close"]);
});

test("a quota of watches refused gives the caller's place back", () => {
  const { wrapped } = limited({ WAYMARK_LIMITS__WATCHES: "2", WAYMARK_QUOTAS__NAMESPACE_WATCHES: "1" });
  call(wrapped, "catalogWatch", watch({ namespace: "svc" }));
  for (let i = 0; i < 5; i++)
    expect(() => call(wrapped, "catalogWatch", watch({ namespace: "svc" }))).toThrow(
      'quota_exceeded: namespace "svc" has 1 of at most 1 watches',
    );
  call(wrapped, "catalogWatch", watch({ namespace: "other" }));
});

test("refusals are counted and recorded; what is only counted is recorded at the end", async () => {
  const events: AuditEvent[] = [];
  const audit = { record: (event: AuditEvent) => events.push(event) };
  const { wrapped, limits, metrics } = limited({ WAYMARK_LIMITS__NAMESPACE_READS_PER_MINUTE: "1" }, [], { audit });
  const ask = () => call(wrapped, "catalogQuery", query({ namespace: "svc" }));
  ask();
  expect(ask).toThrow("discovery_rate_limited");
  for (let i = 0; i < 3; i++) expect(ask).toThrow("discovery_rate_limited");
  expect(events).toHaveLength(1);
  limits.close();
  expect(events.map(({ detail }) => detail)).toEqual([
    'namespace "svc" has a limit of 1 reads per minute',
    'namespace "svc" has a limit of 1 reads per minute; 3 calls refused',
  ]);
  expect(metrics.counter("discovery_rate_limited_total", { tenant: "" }).value).toBe(4);
});

test("a method whose requests are read by hand is so where namespaces have limits too", () => {
  const read = () => undefined;
  const { limits } = limited({ WAYMARK_LIMITS__NAMESPACE_WRITES_PER_MINUTE: "60" });
  const handlers = { register: { kind: "unary", read, handle: () => new Uint8Array() } satisfies MethodHandler };
  expect(admitted({ desc: DiscoveryService, handlers }, limits.admission).handlers["register"]?.read).toBe(read);
});

test("what one worker admits no other admits again: calls and DNS questions apart, of callers and in namespaces", () => {
  const env = Object.fromEntries(
    ["READS", "WRITES", "NAMESPACE_READS", "NAMESPACE_WRITES"].map((name) => [`WAYMARK_LIMITS__${name}_PER_MINUTE`, "2"]),
  );
  const shared = nodeSharedLimits(limited(env).settings, HASH_KEY);
  const [here, there] = [0, 5000].map(
    (originMs) => limited(env, [], { makeBuckets: sharedBuckets(structuredClone(shared), originMs) }).limits,
  );
  const known: Caller = { ...CONTEXT.caller, tenant: "acme" };
  for (const caller of [known, CONTEXT.caller]) {
    here?.admit?.(caller, "read", 5000);
    there?.admit?.(caller, "read", 0);
    for (const limits of [here, there])
      expect(() => limits?.admit?.(caller, "read", limits === here ? 5000 : 0)).toThrow("2 reads per minute");
    there?.admit?.(caller, "write", 0);
  }
  there?.admitDns?.(CONTEXT.caller, 0);
  here?.admitDns?.(CONTEXT.caller, 5000);
  expect(() => there?.admitDns?.(CONTEXT.caller, 0)).toThrow("2 reads per minute");
  for (const cost of ["read", "write"] as const) {
    const admitIn = (limits: NodeLimits | undefined, monoMs: number) =>
      limits?.admission.admitIn?.({ context: { ...CONTEXT, time: { monoMs, wallMs: 0 } }, cost, namespaces: ["svc"], asked: undefined });
    admitIn(here, 5000);
    admitIn(there, 0);
    expect(() => admitIn(here, 5000)).toThrow(`namespace "svc" has a limit of 2 ${cost}s per minute`);
  }
});

test("a sort of buckets without shared memory is refused when it is made, not when it is used", () => {
  const none = nodeSharedLimits(limited({}).settings, HASH_KEY);
  expect(() => limited({ WAYMARK_LIMITS__READS_PER_MINUTE: "1" }, [], { makeBuckets: sharedBuckets(none, 0) })).toThrow(
    "no shared memory for the buckets of calls read known",
  );
});

test("where another thread counts watches it is asked, with the namespace if the caller sees it, and only if a bound is set", () => {
  const asked: string[] = [];
  const watches = {
    open: (_caller: Caller, namespace: string) => {
      asked.push(namespace);
      return Promise.resolve(() => undefined);
    },
  };
  for (const env of [{}, { WAYMARK_LIMITS__WATCHES: "1" }]) {
    const { wrapped } = limited(env, [], { watches });
    for (const namespace of ["svc", "UPPER"]) call(wrapped, "catalogWatch", watch({ namespace }));
  }
  expect(asked).toEqual(["svc", ""]);
  call(limited({}, [RULE], { watches }).wrapped, "catalogWatch", watch({ namespace: "hidden" }));
  expect(asked.at(-1)).toBe("");
});

test("answers of DNS that lack what is hidden are only counted when they are given; metrics and audit hear of them at most once a second", () => {
  const events: AuditEvent[] = [];
  const { limits, metrics, clock } = limited({}, [RULE], { audit: { record: (event) => events.push(event) } });
  const [blue, list] = [{ ...CONTEXT.caller, tenant: "blue", principal: "ann" }, ["hidden"]];
  const ask = (caller: Caller, count: number) => {
    for (let n = 1; n <= count; n++) limits.noteHidden(caller, `192.0.2.${n}`, list);
  };
  const told = () =>
    events.splice(0).map(({ tenant, principal, namespace, detail }) => [tenant, principal, namespace, detail].filter(Boolean).join(" "));
  const counted = () => [
    metrics.counter("dns_policy_denials_total", {}).value,
    metrics.counter("discovery_policy_denials_total", { action: "query", reason: "viewer_denied" }).value,
  ];
  ask(CONTEXT.caller, 3);
  ask(blue, 1);
  ask({ ...blue }, 1);
  expect([told(), counted(), limits.nextDeadlineMs()]).toEqual([[], [0, 0], Number.NEGATIVE_INFINITY]);
  limits.tick(clock);
  expect([told(), counted()]).toEqual([
    [
      "hidden dns, last from 192.0.2.3: rule hidden; 3 calls refused",
      "blue ann hidden dns, last from 192.0.2.1: rule hidden; 2 calls refused",
    ],
    [5, 5],
  ]);
  ask(CONTEXT.caller, 2);
  limits.tick({ monoMs: 999, wallMs: 0 });
  expect([told(), counted(), limits.nextDeadlineMs()]).toEqual([[], [5, 5], 1000]);
  clock.monoMs = 1000;
  limits.tick(clock);
  expect([told(), counted()]).toEqual([["hidden dns, last from 192.0.2.2: rule hidden; 2 calls refused"], [7, 7]]);
  // Who asks why a view of another cluster lacks something finds that cluster.
  clock.monoMs = 2000;
  ask({ ...blue, cluster: "east" }, 1);
  limits.tick(clock);
  expect([told(), counted()]).toEqual([["blue ann hidden dns, last from 192.0.2.1: cluster east, rule hidden"], [8, 8]]);
  // A scrape and the end wait for no second.
  ask(blue, 1);
  metrics.collect();
  expect(counted()).toEqual([9, 9]);
  ask(blue, 1);
  limits.close();
  expect(counted()).toEqual([10, 10]);
});

test("of more than 1,024 lists of hidden namespaces in a second each answer is counted, and no more lists are kept", () => {
  const { limits, metrics, clock } = limited({}, [RULE]);
  for (let n = 0; n < 5000; n++) limits.noteHidden(CONTEXT.caller, "192.0.2.1", [n < 1024 ? "hidden" : "seen"]);
  limits.tick(clock);
  const reasons = metrics.counter("discovery_policy_denials_total", { action: "query", reason: "viewer_denied" });
  expect([metrics.counter("dns_policy_denials_total", {}).value, reasons.value]).toEqual([5000, 5000]);
});
