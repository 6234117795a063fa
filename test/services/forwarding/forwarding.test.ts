/** Calls that a read worker forwards to the main thread, and their answers. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  DiscoveryService,
  KeepAliveRequestSchema,
  KeepAliveResponseSchema,
  RegisterRequestSchema,
  RegisterResponseSchema,
  RenewRequestSchema,
  RenewResponseSchema,
  UnregisterRequestSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../../gen/waymark/dns/v1/dns_pb.js";
import { PolicyService } from "../../../gen/waymark/policy/v1/policy_pb.js";
import { type ErrorDetails, type ErrorReason, InvariantError, invalid, REASONS, WaymarkError } from "../../../src/lib/errors.ts";
import type {
  AnswerSink,
  CallContext,
  HttpRoute,
  MethodHandler,
  RequestListener,
  ServiceDefinition,
} from "../../../src/services/service.ts";
import { runs } from "../../fakes/effort.ts";
import { type Act, CONTEXT, discovery, Forwarding, handlersSettle, renewed, routed } from "../../fakes/forwarding.ts";

const renewal = (leaseId: string) => toBinary(RenewRequestSchema, create(RenewRequestSchema, { leaseIds: [leaseId] }));
const register = (init: MessageInitShape<typeof RegisterRequestSchema>) =>
  toBinary(RegisterRequestSchema, create(RegisterRequestSchema, init));
const leaseIds = (bytes: Uint8Array) => fromBinary(RenewResponseSchema, bytes).expiredLeaseIds;

/** What a caller is told. */
type Outcome = { readonly bytes: readonly number[] } | Pick<WaymarkError, "reason" | "message" | "details"> | { readonly bug: string };

async function outcome(call: () => Uint8Array | Promise<Uint8Array>): Promise<Outcome> {
  try {
    return { bytes: [...(await call())] };
  } catch (thrown) {
    if (!(thrown instanceof WaymarkError)) return { bug: String(thrown) };
    const { reason, message, details } = thrown;
    return { reason, message, details: { ...details, cause: undefined } };
  }
}

async function forwardedOutcome(act: Act, leaseId = "l"): Promise<{ readonly outcome: Outcome; readonly forwarding: Forwarding }> {
  const forwarding = new Forwarding(discovery(act));
  const told = outcome(() => forwarding.call("renew", renewal(leaseId)));
  await forwarding.settle();
  return { outcome: await told, forwarding };
}

test("a handler gets the request, the caller and the request id of the worker's call, and the time of the main thread", async () => {
  const seen: CallContext[] = [];
  await forwardedOutcome((leaseId, context) => {
    seen.push(context);
    return renewed(leaseId);
  });
  expect(seen).toEqual([{ ...CONTEXT, time: { monoMs: 7_000, wallMs: 1_760_000_000_000 } }]);
});

test("calls are answered in the order in which their handlers answer, many in one batch", async () => {
  const later = Promise.withResolvers<Uint8Array>();
  const forwarding = new Forwarding(discovery((leaseId) => (leaseId === "b" ? later.promise : renewed(leaseId))));
  const order: string[] = [];
  const calls = ["a", "b", "c"].map((id) => forwarding.call("renew", renewal(id)).then((bytes) => order.push(...leaseIds(bytes))));
  expect(forwarding.workerWakes).toBe(1);
  forwarding.send();
  expect(forwarding.toMain).toHaveLength(1);
  expect(forwarding.toMain[0]?.callers).toEqual([CONTEXT.caller]);
  await forwarding.settle();
  expect(order).toEqual(["a", "c"]);
  later.resolve(renewed("b"));
  await forwarding.settle();
  await Promise.all(calls);
  expect(order).toEqual(["a", "c", "b"]);
  expect([forwarding.worker.take(), forwarding.main.take()]).toEqual([undefined, undefined]);
});

test("large calls leave other work its turns: what a message brings is run over several, in order, and one call at least in each", async () => {
  const ran: string[] = [];
  const forwarding = new Forwarding(
    discovery((leaseId) => {
      ran.push(leaseId);
      return renewed(leaseId);
    }),
  );
  const calls = ["a", "b", "c", "d"].map((id) => forwarding.call("renew", renewal(id)));
  forwarding.callsLeft = 1;
  forwarding.send();
  forwarding.answer();
  expect(ran).toEqual(["a"]);
  // A message that comes meanwhile waits behind those that wait.
  const last = forwarding.call("renew", renewal("e"));
  forwarding.send();
  forwarding.answer();
  expect([ran, forwarding.later.length]).toEqual([["a"], 1]);
  forwarding.later.shift()?.();
  expect([ran, forwarding.later.length]).toEqual([["a", "b"], 1]);
  forwarding.callsLeft = Number.POSITIVE_INFINITY;
  forwarding.later.shift()?.();
  expect([ran, forwarding.later.length]).toEqual([["a", "b", "c", "d", "e"], 0]);
  await forwarding.settle();
  expect((await Promise.all([...calls, last])).flatMap(leaseIds)).toEqual(["a", "b", "c", "d", "e"]);
});

test("when the client of a forwarded call is gone, the handler learns it, and learns nothing after its answer or of other calls", async () => {
  const left: string[] = [];
  const answers = new Map<string, (bytes: Uint8Array) => void>();
  const act: Act = (leaseId, context) => {
    context.onOver = () => void left.push(leaseId);
    return new Promise((resolve) => void answers.set(leaseId, resolve));
  };
  const forwarding = new Forwarding(discovery(act));
  const contexts = ["a", "b"].map((leaseId) => {
    const context: CallContext = { ...CONTEXT };
    void forwarding.call("renew", renewal(leaseId), context);
    return context;
  });
  await forwarding.settle();
  contexts[0]?.onOver?.();
  await forwarding.settle();
  expect(left).toEqual(["a"]);
  for (const answer of answers.values()) answer(renewed());
  await forwarding.settle();
  for (const context of contexts) context.onOver?.();
  await forwarding.settle();
  expect([left, forwarding.worker.take()]).toEqual([["a"], undefined]);
});

test("when a worker is gone, the handlers of its waiting calls learn it", async () => {
  const left: string[] = [];
  const act: Act = (leaseId, context) => {
    context.onOver = () => void left.push(leaseId);
    return new Promise(() => {});
  };
  const forwarding = new Forwarding(discovery(act));
  void forwarding.call("renew", renewal("a"));
  await forwarding.settle();
  forwarding.main.close();
  expect(left).toEqual(["a"]);
});

const DETAILS: ErrorDetails = {
  violations: [
    { field: "entries[0].key", description: "must be set" },
    { field: "ttl", description: "é \ud83d" },
  ],
  retryMs: 250,
  metadata: { have: "1", want: "2" },
};

test.each(Object.keys(REASONS) as ErrorReason[])("a refusal crosses whole, thrown or rejected: %s", async (reason) => {
  for (const details of [{}, { retryMs: 0 }, DETAILS]) {
    const error = new WaymarkError(reason, `${reason}: said twice`, { ...details, cause: new Error("of the disk") });
    const wanted = { reason, message: `${reason}: ${reason}: said twice`, details: { ...details, cause: undefined } };
    const throwing: Act = () => {
      throw error;
    };
    const thrown = await forwardedOutcome(throwing);
    expect(thrown.outcome).toEqual(wanted);
    const rejected = await forwardedOutcome(() => Promise.reject(error));
    expect(rejected.outcome).toEqual(wanted);
    expect([...thrown.forwarding.bugs, ...rejected.forwarding.bugs]).toEqual([]);
  }
});

test.each([
  { what: "an Error", fault: new TypeError("secret of the handler") },
  { what: "a broken invariant", fault: new InvariantError("secret of the handler") },
  { what: "an Error that cannot be sent", fault: Object.assign(new Error("secret of the handler"), { of: () => {} }) },
])("of $what the caller learns that the call failed, and the main thread is told all", async ({ fault }) => {
  const throwing: Act = () => {
    throw fault;
  };
  for (const act of [throwing, () => Promise.reject(fault)] satisfies Act[]) {
    const { outcome: told, forwarding } = await forwardedOutcome(act);
    const message = "internal: the server failed to process this request; search its log for the request id";
    expect(told).toEqual({ reason: "internal", message, details: {} });
    expect(forwarding.bugs).toEqual([
      { fault, call: { requestId: "r-1", service: "waymark.discovery.v1.DiscoveryService", method: "Renew" } },
    ]);
  }
});

test("an answer that cannot be encoded is a bug", async () => {
  const { outcome: told, forwarding } = await forwardedOutcome(
    () => ({ $typeName: "waymark.discovery.v1.RenewResponse", expiredLeaseIds: undefined }) as never,
  );
  expect(told).toMatchObject({ reason: "internal" });
  expect(forwarding.bugs).toHaveLength(1);
});

test("a request is sent on in the bytes that it came in, also by a listener that finds out who calls first", async () => {
  // A field that this version does not know.
  const bytes = Uint8Array.from([...register({ leaseId: "l", entries: [{ key: { name: "e" } }] }), 0xfa, 0x7f, 1, 9]);
  const forwarding = new Forwarding(discovery());
  const handler = forwarding.service.handlers["register"];
  if (handler?.kind !== "unary") throw new Error("register is unary");
  const [first, second] = [handler.read?.(bytes), handler.read?.(register({ leaseId: "other" }))];
  expect([first, second]).toMatchObject([{ leaseId: "l" }, { leaseId: "other" }]);
  void handler.handle(first as never, CONTEXT);
  const sent = forwarding.worker.take()?.said.bytes;
  expect([...(sent ?? [])]).toEqual([...bytes]);
});

test("a request that did not come as bytes, as from JSON, is encoded", async () => {
  const forwarding = new Forwarding(discovery());
  const handler = forwarding.service.handlers["register"];
  if (handler?.kind !== "unary") throw new Error("register is unary");
  const answer = handler.handle(create(RegisterRequestSchema, { leaseId: "l", entries: [{ key: { name: "e" } }] }) as never, CONTEXT);
  await forwarding.settle();
  expect(fromBinary(RegisterResponseSchema, (await answer) as Uint8Array)).toMatchObject({ leaseId: "l", cursor: "e" });
});

test("bytes that cannot be read are refused in the worker", () => {
  const { service, worker } = new Forwarding(discovery());
  for (const method of ["register", "keepAlive", "renew"])
    expect(() => service.handlers[method]?.read?.(Uint8Array.of(0x0a, 9))).toThrow("premature EOF");
  expect(worker.take()).toBeUndefined();
});

/** The answers of a stream of requests. */
class Taken implements AnswerSink {
  readonly said: (readonly string[])[] = [];
  isPaused = false;
  ended: unknown;

  send(answer: unknown): boolean {
    this.said.push(answer instanceof Uint8Array ? fromBinary(KeepAliveResponseSchema, answer).expiredLeaseIds : ["no bytes"]);
    return true;
  }

  onceRoomy(): void {}

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  end(): void {
    this.ended = "ok";
  }

  fail(thrown: unknown): void {
    this.ended = thrown;
  }
}

test("each request of a stream is answered by itself, the next one after it", async () => {
  const forwarding = new Forwarding(discovery());
  const { keepAlive } = forwarding.service.handlers;
  if (keepAlive?.kind !== "bidi_streaming") throw new Error("keepAlive has two directions");
  const answers = new Taken();
  const listener: RequestListener<never> = keepAlive.open(answers, CONTEXT);
  const message = (...ids: string[]) => {
    const bytes = toBinary(KeepAliveRequestSchema, create(KeepAliveRequestSchema, { leaseIds: ids }));
    listener.message(keepAlive.read?.(bytes) as never, CONTEXT.time);
  };
  message("a", "b");
  expect([answers.isPaused, answers.said]).toEqual([true, []]);
  await forwarding.settle();
  expect([answers.isPaused, answers.said]).toEqual([false, [["a", "b"]]]);
  message("c");
  listener.halfClosed();
  expect(answers.ended).toBeUndefined();
  await forwarding.settle();
  expect([answers.said, answers.ended]).toEqual([[["a", "b"], ["c"]], "ok"]);
});

test.each([
  { what: "so many calls", bounds: { maxCalls: 3, maxBytes: 1e6 }, bytes: 10, fits: 3 },
  { what: "so many bytes", bounds: { maxCalls: 99, maxBytes: 240 }, bytes: 120, fits: 2 },
])("no more than $what wait for the main thread, taken or not", async ({ bounds, bytes, fits }) => {
  const forwarding = new Forwarding(discovery(), bounds);
  const request = renewal("x".repeat(bytes - 2));
  const call = () => outcome(() => forwarding.call("renew", request));
  const full = {
    reason: "discovery_rate_limited",
    details: { retryMs: 1_000, metadata: { max_calls: `${bounds.maxCalls}`, max_bytes: `${bounds.maxBytes}` } },
  };
  for (let round = 0; round < 3; round++) {
    const waiting = Array.from({ length: fits }, call);
    expect(await call()).toMatchObject(full);
    forwarding.send();
    expect(await call()).toMatchObject(full);
    await forwarding.settle();
    expect(await Promise.all(waiting)).toEqual(waiting.map(() => ({ bytes: [...renewed("x".repeat(bytes - 2))] })));
  }
});

test("when the main thread is gone, what waits fails, and so does each call after that; late answers change nothing", async () => {
  const forwarding = new Forwarding(discovery());
  const call = () => outcome(() => forwarding.call("renew", renewal("l")));
  const waiting = [call(), call()];
  forwarding.send();
  forwarding.answer();
  forwarding.worker.close();
  const gone = { reason: "draining", details: { retryMs: 1_000 } };
  expect(await Promise.all(waiting)).toMatchObject([gone, gone]);
  expect(await call()).toMatchObject(gone);
  forwarding.hear();
  expect(forwarding.worker.take()).toBeUndefined();
});

test("when the worker is gone, late answers go nowhere, and a bug is still told", async () => {
  const later = [Promise.withResolvers<Uint8Array>(), Promise.withResolvers<Uint8Array>()];
  const forwarding = new Forwarding(discovery((leaseId) => later[Number(leaseId)]?.promise ?? renewed()));
  for (const id of ["0", "1"]) void outcome(() => forwarding.call("renew", renewal(id)));
  forwarding.send();
  forwarding.answer();
  forwarding.main.close();
  later[0]?.resolve(renewed());
  later[1]?.reject(new Error("late"));
  await handlersSettle();
  expect([forwarding.mainWakes, forwarding.main.take()]).toEqual([0, undefined]);
  expect(forwarding.bugs).toHaveLength(1);
});

test("a call that the main thread does not have is a bug", () => {
  const forwarding = new Forwarding(discovery());
  const { clusterMap } = forwarding.service.handlers;
  if (clusterMap?.kind !== "unary") throw new Error("clusterMap is unary");
  void clusterMap.handle(clusterMap.read?.(new Uint8Array()) as never, CONTEXT);
  forwarding.send();
  expect(() => forwarding.answer()).toThrow("a forwarded call has no handler or no caller");
});

test("a worker forwards what its protos leave to the main thread, and answers the rest itself", () => {
  const mine: MethodHandler = { kind: "unary", handle: () => new Uint8Array() };
  const { worker } = new Forwarding(discovery());
  const handlersOf = (handlers: ServiceDefinition["handlers"]) => worker.service(PolicyService, { handlers }).handlers;
  // PROCESS, and NODE.
  expect(handlersOf({ policyStatus: mine, applyPolicy: mine })).toMatchObject({ policyStatus: mine, applyPolicy: { kind: "unary" } });
  expect(handlersOf({ applyPolicy: mine })["applyPolicy"]).not.toBe(mine);
  expect(Object.keys(handlersOf({})).toSorted()).toEqual(PolicyService.methods.map(({ localName }) => localName).toSorted());
  // COPY.
  expect(Object.keys(worker.service(DnsService).handlers)).toEqual(["registerName", "unregisterName"]);
});

test("an rpc that cannot be forwarded ends the start: a stream of requests that are not answered one by one", () => {
  const keepAlive: MethodHandler = { kind: "bidi_streaming", open: () => ({ message() {}, halfClosed() {}, leave() {}, close() {} }) };
  const service = { desc: DiscoveryService, handlers: { keepAlive } };
  expect(() => new Forwarding(service)).toThrow(/a read worker cannot forward this rpc .*DiscoveryService\/KeepAlive/);
});

test.each<{ readonly what: string; readonly answer: HttpRoute["answer"]; readonly want: unknown }>([
  {
    what: "a page",
    answer: ({ a }, { caller, requestId }) => ({ kind: "page", page: [a ?? "", caller.principal, requestId, 1.5, true, { é: "\u2028" }] }),
    want: { kind: "page", page: ["é=1", "spiffe://a", "r-1", 1.5, true, { é: "\u2028" }] },
  },
  {
    what: "a page that comes later, of which a part is steady",
    answer: () => Promise.resolve({ kind: "page", page: { age: 1 }, steady: {} }),
    want: { kind: "page", page: { age: 1 }, steady: {} },
  },
  {
    what: "a page with a mark, which is made for the worker",
    answer: () => ({ kind: "marked", mark: "m", page: () => [1] }),
    want: { kind: "page", page: [1], steady: "m" },
  },
  {
    what: "a refusal",
    answer: () => {
      throw invalid("a", "is no number");
    },
    want: expect.objectContaining({ reason: "invalid_argument", message: "invalid_argument: a: is no number" }),
  },
])("a route is answered with $what of the main thread", async ({ answer, want }) => {
  const forwarding = new Forwarding(routed(answer));
  const [route] = forwarding.service.routes;
  expect(route).toMatchObject({ path: "/control/peers", parameters: ["a"] });
  const told = Promise.resolve(route?.answer?.({ a: "é=1" }, CONTEXT)).catch((thrown: unknown) => thrown);
  await forwarding.settle();
  expect(await told).toEqual(want);
});

test("a worker answers the routes that it has, and forwards those of the main thread that it lacks, but none of the catalog", () => {
  const { worker } = new Forwarding(discovery());
  const row = { path: "/discovery/policy", parameters: [], rpc: "policyStatus", rpcWith: { namespace: "explain" } };
  const own: HttpRoute = { ...row, answer: () => ({ kind: "page", page: 1 }) };
  expect(worker.service(PolicyService, { handlers: {}, routes: [own] }, [row]).routes).toEqual([own]);
  const { routes } = worker.service(PolicyService, {}, [row]);
  expect(routes).toMatchObject([row]);
  expect(routes).not.toEqual([own]);
  const ofCatalog = { path: "/sd/new", parameters: [], rpc: "catalogQuery" };
  expect(worker.service(DiscoveryService, {}, [ofCatalog]).routes).toEqual([]);
});

const REQUEST = fc.oneof(
  fc.record({ method: fc.constant("renew"), bytes: fc.string().map(renewal) }),
  fc.record({
    method: fc.constant("register"),
    bytes: fc
      .record({ leaseId: fc.string(), entries: fc.array(fc.record({ key: fc.record({ name: fc.string() }) }), { maxLength: 5 }) })
      .map(register),
  }),
  fc.record({
    method: fc.constant("unregister"),
    bytes: fc
      .nat(5)
      .map((count) =>
        toBinary(UnregisterRequestSchema, create(UnregisterRequestSchema, { keys: Array.from({ length: count }, () => ({})) })),
      ),
  }),
);

/** Answers in a way that follows from the lease id. */
const moody: Act = (leaseId, { caller, requestId }) => {
  const how = leaseId.length % 5;
  if (how === 1) throw new WaymarkError("lease_not_found", `no lease ${leaseId}`, { metadata: { leaseId } });
  if (how === 2) return Promise.resolve(renewed(leaseId, caller.principal));
  if (how === 3) return Promise.reject(new WaymarkError("not_ready", "later", { retryMs: leaseId.length }));
  return renewed(leaseId, requestId);
};

test("calls have the same outcome forwarded as without, however they come together", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(REQUEST, fc.boolean()), { maxLength: 30 }), async (requests) => {
      const service = discovery(moody);
      const forwarding = new Forwarding(service);
      const direct: Promise<Outcome>[] = [];
      const forwarded: Promise<Outcome>[] = [];
      for (const [[{ method, bytes }, isSent], at] of requests.map((each, index) => [each, index] as const)) {
        const context = { ...CONTEXT, requestId: `r-${at}`, caller: { ...CONTEXT.caller, principal: `p-${at % 3}` } };
        direct.push(outcome(() => directly(service, method, bytes, context)));
        forwarded.push(outcome(() => forwarding.call(method, bytes, context)));
        if (isSent) forwarding.send();
      }
      await forwarding.settle();
      expect(await Promise.all(forwarded)).toEqual(await Promise.all(direct));
    }),
    { numRuns: runs(200) },
  );
});

/** As a listener calls the handler itself. */
async function directly({ desc, handlers }: ServiceDefinition, name: string, bytes: Uint8Array, context: CallContext): Promise<Uint8Array> {
  const method = desc.methods.find(({ localName }) => localName === name);
  const handler = handlers[name];
  if (handler?.kind !== "unary" || method === undefined) throw new Error(`${name} is not unary`);
  const answer = await handler.handle((handler.read?.(bytes) ?? fromBinary(method.input, bytes)) as never, context);
  return answer instanceof Uint8Array ? answer : toBinary(method.output, answer);
}
