/** Streams behind the chain, whatever carries them: who is admitted, when they end, and that each is counted once. */
import type { Message } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  CatalogWatchRequestSchema,
  DiscoveryService,
  type KeepAliveRequest,
  KeepAliveRequestSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import type { WriteCallback } from "../../src/grpc/wire/message-reader.ts";
import { invalid, WaymarkError } from "../../src/lib/errors.ts";
import type { CallArrival, ChainPorts } from "../../src/server/chain.ts";
import type { RpcStatus } from "../../src/server/status.ts";
import { RequestStream, SourceStream, type StreamExchange } from "../../src/server/streams.ts";
import { TurnBudget } from "../../src/server/turn-budget.ts";
import { answeringEach } from "../../src/services/answered-stream.ts";
import type { AnswerSink, CallContext, RequestListener } from "../../src/services/service.ts";
import { DemoSource, demoChain, demoService } from "../fakes/demo-service.ts";

/** What was ordered, in order; nothing is taken, and no time passes, until a test says so. */
class FakeExchange implements CallArrival, StreamExchange {
  readonly arrival = this;
  readonly transport = "test";
  readonly encoding = "none";
  readonly address = "192.0.2.1";
  readonly certificate = undefined;
  readonly timeoutMs = undefined;
  readonly header = () => undefined;
  readonly orders: string[] = [];
  readonly sent: (Message | Uint8Array)[] = [];
  readonly taken: WriteCallback[] = [];
  isRoomy = true;
  unsendable: Error | undefined;
  goOn: () => void = () => {};
  expire: () => void = () => {};

  onDeadline(expire: () => void): () => void {
    this.expire = expire;
    return () => void this.orders.push("deadline forgotten");
  }

  begin({ requestId }: CallContext): void {
    this.orders.push(`begin ${requestId}`);
  }

  send(answer: Message | Uint8Array, taken?: WriteCallback): boolean {
    if (this.unsendable !== undefined) throw this.unsendable;
    this.orders.push("send");
    this.sent.push(answer);
    if (taken !== undefined) this.taken.push(taken);
    return this.isRoomy;
  }

  onceRoomy(goOn: () => void): void {
    this.goOn = goOn;
  }

  pause(): void {
    this.orders.push("pause");
  }

  resume(): void {
    this.orders.push("resume");
  }

  end(): void {
    this.orders.push("end");
  }

  fail({ reason }: RpcStatus, requestId: string): void {
    this.orders.push(`fail ${reason} ${requestId}`);
  }
}

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
const watch = create(CatalogWatchRequestSchema, {});
const renewal = (...leaseIds: string[]) => create(KeepAliveRequestSchema, { leaseIds });
const KNOWN = { principal: "signed", tenant: "alpha", cluster: "local", roles: [], isAuthenticated: true, address: "192.0.2.1" };
const refusal = () => new WaymarkError("unauthenticated", "token has expired");

function source(ports: Partial<ChainPorts> = {}) {
  const { service, sources } = demoService();
  const on = demoChain(ports);
  const exchange = new FakeExchange();
  const method = on.chain.method(DiscoveryService.method.catalogWatch, service.handlers["catalogWatch"]);
  const stream = new SourceStream(method, exchange);
  return { ...on, sources, exchange, stream, first: () => sources[0] as DemoSource, codes: () => on.observed.map(({ code }) => code) };
}

/** The stream of one source, which is open. */
function opened(opening: DemoSource, ports: Partial<ChainPorts> = {}) {
  const on = demoChain(ports);
  const exchange = new FakeExchange();
  const handler = { kind: "server_streaming", open: () => opening } as const;
  const stream = new SourceStream(on.chain.method(DiscoveryService.method.catalogWatch, handler), exchange);
  stream.open(watch);
  return { ...on, exchange, stream, ends: () => exchange.orders.filter((order) => /^(end|fail)/.test(order)) };
}

const bytes = (n: number) => Uint8Array.of(n);

/** A renewal of "late" is answered when a test says so, one of "refuse" is refused, and others at once. */
function requests(ports: Partial<ChainPorts> = {}) {
  const late: (() => void)[] = [];
  const handler = answeringEach(({ leaseIds: [first] }: KeepAliveRequest) => {
    if (first === "refuse") throw invalid("lease_ids", "must not be refuse");
    if (first !== "late") return new Uint8Array();
    return new Promise<Uint8Array>((resolve) => late.push(() => resolve(new Uint8Array())));
  });
  const on = demoChain(ports);
  const exchange = new FakeExchange();
  const method = on.chain.method(DiscoveryService.method.keepAlive, handler);
  const answerLate = async () => {
    late.shift()?.();
    await settled();
  };
  return { ...on, answerLate, exchange, stream: new RequestStream(method, exchange), codes: () => on.observed.map(({ code }) => code) };
}

test("a source is opened, pulled as its answers are taken, and closed once when it ends", () => {
  const { stream, exchange, first, codes } = source();
  stream.open(watch);
  first().queue.push(new Uint8Array(1), new Uint8Array(2));
  first().wake();
  expect(exchange.orders).toEqual(["begin demo-1", "send"]);
  exchange.taken[0]?.();
  exchange.taken[1]?.(null); // oxlint-disable-line unicorn/no-null -- as Node's callbacks say none.
  first().end(undefined);
  stream.gone();
  expect(exchange.orders).toEqual(["begin demo-1", "send", "send", "deadline forgotten", "end"]);
  expect([first().closeCount, codes()]).toEqual([1, ["OK"]]);
});

test("a source that is drained is not pulled before it wakes the stream, and a wake while its message is taken is not lost", () => {
  const drained = new DemoSource();
  const { exchange } = opened(drained);
  const wakeWith = (n: number) => {
    drained.queue.push(bytes(n));
    drained.wake();
  };
  drained.isDrained = true;
  wakeWith(1);
  const before = drained.pullCount;
  exchange.taken[0]?.();
  expect(drained.pullCount).toBe(before);
  wakeWith(2);
  wakeWith(3);
  expect(exchange.sent).toEqual([bytes(1), bytes(2)]);
  exchange.taken[1]?.();
  expect(exchange.sent).toEqual([bytes(1), bytes(2), bytes(3)]);
  drained.isDrained = false;
  drained.queue.push(bytes(4));
  exchange.taken[2]?.();
  expect(exchange.sent).toHaveLength(4);
});

/** A clock, and a loop whose turns end when a test says so. */
function ownTurns() {
  const own = { monoMs: 0, ends: [] as (() => void)[] };
  const turn = new TurnBudget({ nowMs: () => own.monoMs, onEnd: (act) => void own.ends.push(act) });
  const next = () => own.ends.splice(0).forEach((end) => end());
  return { own, turn, next };
}

test("a reader that takes a long snapshot at once shares the turns of the event loop", () => {
  const { own, turn, next } = ownTurns();
  const from = new DemoSource();
  from.chunk = bytes(1);
  from.pull = () => {
    own.monoMs += 1;
    return bytes(1);
  };
  const { stream, exchange } = opened(from, { turn });
  const takeAll = () => {
    for (let taken = exchange.taken.shift(); taken !== undefined; taken = exchange.taken.shift()) taken();
  };
  takeAll();
  expect(exchange.sent).toHaveLength(2);
  next();
  takeAll();
  expect(exchange.sent).toHaveLength(4);
  // A wake in between sends what there is, and what waited for its turn is no second message under way.
  takeAll();
  from.wake();
  expect([exchange.sent.length, exchange.taken.length]).toEqual([5, 1]);
  next();
  expect([exchange.sent.length, exchange.taken.length]).toEqual([5, 1]);
  stream.gone();
  takeAll();
  next();
  expect(exchange.sent).toHaveLength(5);
});

test("a stream waits for its turn once, however often it is woken meanwhile", () => {
  const waiting: (() => void)[] = [];
  class Full extends TurnBudget {
    override mayAct(): boolean {
      return false;
    }
    override wait(act: () => void): void {
      waiting.push(act);
    }
  }
  const from = new DemoSource();
  from.chunk = bytes(1);
  const { exchange } = opened(from, { turn: new Full({ nowMs: () => 0, onEnd: () => {} }) });
  for (let i = 0; i < 5; i++) {
    from.wake();
    exchange.taken[i]?.();
  }
  expect([exchange.sent.length, waiting.length]).toEqual([5, 1]);
  waiting.shift()?.();
  expect(exchange.sent).toHaveLength(6);
});

test("streams that open together give their first messages in turns", () => {
  const { own, turn, next } = ownTurns();
  const sent = Array.from({ length: 6 }, (_, i) => {
    const from = new DemoSource();
    from.pull = () => {
      own.monoMs += 1;
      return bytes(i);
    };
    return opened(from, { turn }).exchange.sent;
  });
  const count = () => sent.filter(({ length }) => length > 0).length;
  const counts = [count()];
  for (let i = 0; i < 3; i++) {
    next();
    counts.push(count());
  }
  expect(counts).toEqual([2, 4, 6, 6]);
});

test.each(["at once", "later"])("a caller who is known %s is admitted; while nobody knows nothing is read", async (when) => {
  const { stream, exchange, sources } = source({ identify: () => (when === "later" ? Promise.resolve(KNOWN) : KNOWN) });
  stream.open(watch);
  await settled();
  expect(sources).toHaveLength(1);
  expect(exchange.orders).toEqual(when === "later" ? ["pause", "begin demo-1", "resume"] : ["begin demo-1"]);
});

test.each(["at once", "later"])("a caller who turns out %s to be nobody opens nothing, and is refused with the call's id", async (when) => {
  const identify = () => {
    if (when === "later") return Promise.reject(refusal());
    throw refusal();
  };
  const { stream, exchange, sources, codes } = source({ identify });
  stream.open(watch);
  await settled();
  expect([sources, codes()]).toEqual([[], ["UNAUTHENTICATED"]]);
  expect(exchange.orders.filter((order) => order.startsWith("fail"))).toEqual(["fail unauthenticated demo-1"]);
});

test("a client that goes away before it is known opens nothing, and is counted once", async () => {
  const { stream, exchange, sources, codes } = source({ identify: () => Promise.resolve(KNOWN) });
  stream.open(watch);
  stream.gone();
  await settled();
  expect([sources, codes()]).toEqual([[], ["CANCELLED"]]);
  expect(exchange.orders).toEqual(["pause", "deadline forgotten"]);
});

test("bytes that are no request, and a source that refuses, open nothing", () => {
  const unread = source();
  unread.stream.open(new WaymarkError("invalid_argument", "not the bytes"));
  const refused = source();
  refused.stream.open(create(CatalogWatchRequestSchema, { namespace: "refuse" }));
  for (const { sources, exchange } of [unread, refused]) {
    expect(sources).toEqual([]);
    expect(exchange.orders).toEqual(["deadline forgotten", "fail invalid_argument demo-1"]);
  }
});

test("a deadline ends a source though an answer of it is not taken", () => {
  const { stream, exchange, first, codes } = source();
  stream.open(watch);
  first().queue.push(new Uint8Array(1));
  first().wake();
  exchange.expire();
  expect(exchange.orders.at(-1)).toBe("fail deadline_exceeded demo-1");
  expect([first().closeCount, codes()]).toEqual([1, ["DEADLINE_EXCEEDED"]]);
});

test("a stream ends when the credential of its caller expires", () => {
  const timers: { readonly act: () => void; readonly delayMs: number }[] = [];
  const { stream, exchange, first } = source({
    now: () => ({ monoMs: 0, wallMs: 1_000 }),
    identify: () => ({ ...KNOWN, untilWallMs: 1_500 }),
    later: (act, delayMs) => {
      timers.push({ act, delayMs });
      return () => {};
    },
  });
  stream.open(watch);
  expect(timers).toMatchObject([{ delayMs: 500 }]);
  timers[0]?.act();
  expect([exchange.orders.at(-1), first().closeCount]).toEqual(["fail unauthenticated demo-1", 1]);
});

/** Callers change as the test says, and what comes later comes when it says so. */
function changing(): { readonly ports: Partial<ChainPorts>; identify: ChainPorts["identify"]; readonly later: (() => void)[] } {
  const later: (() => void)[] = [];
  const at = {
    identify: (() => KNOWN) as ChainPorts["identify"],
    later,
    ports: {
      identify: (...of: Parameters<ChainPorts["identify"]>) => at.identify(...of),
      later: (act: () => void) => {
        later.push(act);
        return () => {};
      },
    },
  };
  return at;
}

const refuse = () => {
  throw refusal();
};

test.each([
  { what: "is withdrawn", now: refuse, ends: ["fail unauthenticated demo-1"] },
  { what: "is found to be withdrawn later", now: () => Promise.reject(refusal()), ends: ["fail unauthenticated demo-1"] },
  { what: "stands for somebody else", now: () => ({ ...KNOWN, principal: "other" }), ends: ["fail unauthenticated demo-1"] },
  {
    what: "has lost a role, which is known later",
    now: async () => ({ ...KNOWN, roles: ["mesh.read"] }),
    ends: ["fail unauthenticated demo-1"],
  },
  { what: "is what it was", now: () => ({ ...KNOWN, address: "192.0.2.1", roles: [] }), ends: [] },
  {
    what: "cannot be verified just now",
    now: () => {
      throw new WaymarkError("discovery_rate_limited", "too many tokens are being verified");
    },
    ends: [],
  },
])("when credentials change, the stream of a caller whose credential $what ends or stays", async ({ now, ends }) => {
  const at = changing();
  const { stream, exchange, chain, first } = source(at.ports);
  stream.open(watch);
  at.identify = now;
  chain.knownStreams.check();
  await settled();
  expect(exchange.orders.filter((order) => /^(end|fail)/.test(order))).toEqual(ends);
  expect(first().closeCount).toBe(ends.length);
});

test("when credentials change, streams without a credential and streams that are over are not asked about", () => {
  const at = changing();
  at.identify = () => ({ ...KNOWN, isAuthenticated: false });
  const { chain, service } = { ...demoChain(at.ports), ...demoService() };
  const method = chain.method(DiscoveryService.method.catalogWatch, service.handlers["catalogWatch"]);
  new SourceStream(method, new FakeExchange()).open(watch);
  at.identify = () => KNOWN;
  const over = new SourceStream(method, new FakeExchange());
  over.open(watch);
  over.gone();
  let asked = 0;
  at.identify = () => {
    asked += 1;
    return KNOWN;
  };
  chain.knownStreams.check();
  expect(asked).toBe(0);
});

test("many streams are looked at some at a time, and all of them again when credentials change meanwhile", () => {
  const at = changing();
  let asked = 0;
  const { chain, service } = { ...demoChain(at.ports), ...demoService() };
  const method = chain.method(DiscoveryService.method.catalogWatch, service.handlers["catalogWatch"]);
  for (let i = 0; i < 250; i++) new SourceStream(method, new FakeExchange()).open(watch);
  at.identify = () => {
    asked += 1;
    return KNOWN;
  };
  const askedAfter = (act: (() => void) | undefined) => {
    act?.();
    return asked;
  };
  expect(askedAfter(() => chain.knownStreams.check())).toBe(100);
  chain.knownStreams.check();
  expect([askedAfter(at.later.shift()), askedAfter(at.later.shift()), askedAfter(at.later.shift())]).toEqual([200, 300, 350]);
  expect(at.later).toEqual([]);
});

test("an answer that cannot be sent ends its own stream, and closes its source", () => {
  const { stream, exchange, first, codes, faults } = source();
  stream.open(watch);
  exchange.unsendable = new Error("cannot encode");
  first().queue.push(new Uint8Array(1));
  first().wake();
  expect([exchange.orders.at(-1), first().closeCount, codes(), faults]).toEqual([
    "fail internal demo-1",
    1,
    ["INTERNAL"],
    [exchange.unsendable],
  ]);
});

test("the next answer is pulled only when the one in flight was taken", () => {
  const from = new DemoSource();
  from.queue.push(bytes(1), bytes(2));
  const { exchange } = opened(from);
  from.wake();
  expect(exchange.sent).toEqual([bytes(1)]);
  exchange.taken[0]?.();
  expect(exchange.sent).toEqual([bytes(1), bytes(2)]);
});

test("a reader that never takes costs one pull, however often the source wakes", () => {
  const from = new DemoSource();
  from.chunk = bytes(1);
  opened(from);
  for (let i = 0; i < 100; i++) from.wake();
  expect(from.pullCount).toBe(1);
});

test("a source with nothing is pulled again when it wakes", () => {
  const from = new DemoSource();
  const { exchange } = opened(from);
  expect(exchange.sent).toEqual([]);
  from.queue.push(bytes(7));
  from.wake();
  expect(exchange.sent).toEqual([bytes(7)]);
});

test("a source that wakes from inside its own pull is pulled again, without recursion", () => {
  const from = new DemoSource();
  let left = 10_000;
  from.pull = () => {
    if (left === 0) return bytes(9);
    left -= 1;
    from.wake();
    return undefined;
  };
  expect(opened(from).exchange.sent).toEqual([bytes(9)]);
});

test.each([
  { error: undefined, end: "end" },
  { error: new WaymarkError("draining", "go"), end: "fail draining demo-1" },
])("an end of the source waits for the answer in flight: $end", ({ error, end }) => {
  const from = new DemoSource();
  from.chunk = bytes(1);
  const { exchange, ends } = opened(from);
  from.end(error);
  from.wake();
  expect(ends()).toEqual([]);
  exchange.taken[0]?.();
  expect([ends(), exchange.sent.length, from.closeCount]).toEqual([[end], 1, 1]);
});

test("an end from inside a pull comes after what that pull gives", () => {
  const from = new DemoSource();
  from.pull = () => {
    from.end(undefined);
    return bytes(1);
  };
  const { exchange, ends } = opened(from);
  expect([exchange.sent, ends(), from.closeCount]).toEqual([[bytes(1)], [], 0]);
  exchange.taken[0]?.();
  expect([exchange.sent.length, ends(), from.closeCount]).toEqual([1, ["end"], 1]);
});

test("an end of an idle source is at once, and whatever follows changes nothing", () => {
  const from = new DemoSource();
  const { stream, ends } = opened(from);
  from.end(undefined);
  from.end(new WaymarkError("draining", "go"));
  from.wake();
  stream.gone();
  expect([ends(), from.pullCount, from.closeCount]).toEqual([["end"], 1, 1]);
});

test("a stream that is gone closes its source once, and sends nothing more", () => {
  const from = new DemoSource();
  from.chunk = bytes(1);
  const { stream, exchange, ends } = opened(from);
  stream.gone();
  stream.gone();
  exchange.taken[0]?.();
  from.wake();
  from.end(undefined);
  expect([exchange.sent.length, ends(), from.closeCount]).toEqual([1, [], 1]);
});

test("a pull that throws ends the stream with what it threw", () => {
  const from = new DemoSource();
  const fault = new TypeError("bug");
  from.pull = () => {
    throw fault;
  };
  const { ends, faults } = opened(from);
  expect([ends(), faults, from.closeCount]).toEqual([["fail internal demo-1"], [fault], 1]);
});

test("requests are answered in order; while an answer waits none is read", async () => {
  const { stream, exchange, codes, answerLate } = requests();
  stream.open();
  stream.message(renewal("a"));
  stream.message(renewal("late"));
  expect(exchange.orders).toEqual(["begin demo-1", "send", "pause"]);
  await answerLate();
  expect(exchange.orders).toEqual(["begin demo-1", "send", "pause", "send", "resume"]);
  stream.halfClosed();
  expect([exchange.orders.at(-1), codes()]).toEqual(["end", ["OK"]]);
});

test("a client that does not take answers is not read, and ends once it has taken them", () => {
  const { stream, exchange } = requests();
  stream.open();
  exchange.isRoomy = false;
  stream.message(renewal("a"));
  stream.halfClosed();
  expect(exchange.orders).toEqual(["begin demo-1", "send", "pause"]);
  exchange.goOn();
  expect(exchange.orders.slice(3)).toEqual(["resume", "deadline forgotten", "end"]);
});

test("a request that is refused, or no request, ends the stream; what comes after it is not handled", () => {
  for (const bad of [renewal("refuse"), renewal("x".repeat(257)), new WaymarkError("invalid_argument", "not the bytes")]) {
    const { stream, exchange, codes } = requests();
    stream.open();
    stream.message(bad);
    stream.message(renewal("b"));
    stream.halfClosed();
    stream.fail(new Error("late"));
    expect(exchange.orders).toEqual(["begin demo-1", "deadline forgotten", "fail invalid_argument demo-1"]);
    expect(codes()).toEqual(["INVALID_ARGUMENT"]);
  }
});

test("a draining server ends a stream of requests once what was asked is answered", async () => {
  const idle = requests();
  idle.stream.open();
  idle.chain.drain();
  expect(idle.exchange.orders.at(-1)).toBe("fail draining demo-1");
  const busy = requests();
  busy.stream.open();
  busy.stream.message(renewal("late"));
  busy.chain.drain();
  expect(busy.exchange.orders).toEqual(["begin demo-1", "pause"]);
  await busy.answerLate();
  expect(busy.exchange.orders.at(-1)).toBe("fail draining demo-1");
  expect(busy.exchange.orders).toContain("send");
});

test("a credential that expired while no timer ran refuses the next request", () => {
  let wallMs = 1_000;
  const { stream, exchange } = requests({
    now: () => ({ monoMs: 0, wallMs }),
    identify: () => ({ ...KNOWN, untilWallMs: 1_500 }),
    later: () => () => {},
  });
  stream.open();
  stream.message(renewal("a"));
  wallMs = 1_501;
  stream.message(renewal("b"));
  expect(exchange.orders.filter((order) => order === "send")).toHaveLength(1);
  expect(exchange.orders.at(-1)).toBe("fail unauthenticated demo-1");
});

test("the handler of a stream is told of everything, and of its end once; nothing is sent afterwards", () => {
  const told: string[] = [];
  let given: AnswerSink | undefined;
  const open = (answers: AnswerSink): RequestListener<never> => {
    given = answers;
    return {
      message: () => void told.push("message"),
      halfClosed: () => void told.push("half-closed"),
      leave: () => void told.push("leave"),
      close: () => void told.push("close"),
    };
  };
  const { chain, observed } = demoChain();
  const exchange = new FakeExchange();
  const stream = new RequestStream(chain.method(DiscoveryService.method.keepAlive, { kind: "bidi_streaming", open }), exchange);
  stream.open();
  stream.message(renewal());
  chain.drain();
  stream.halfClosed();
  stream.gone();
  stream.gone();
  given?.end();
  expect([given?.send(new Uint8Array()), told]).toEqual([true, ["message", "leave", "half-closed", "close"]]);
  expect(observed.map(({ code }) => code)).toEqual(["CANCELLED"]);
  expect(exchange.orders).toEqual(["begin demo-1", "deadline forgotten"]);
});

test("a handler of another kind than its rpc ends the start", () => {
  const { chain } = demoChain();
  expect(() =>
    chain.method(
      DiscoveryService.method.catalogQuery,
      answeringEach(() => new Uint8Array()),
    ),
  ).toThrow(/method kind of its rpc/);
});
