/** `lead` with servers that a test plays: which terms the work gets, when a term ends, and how the campaign ends. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Duration, durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import {
  CampaignState,
  type LeadershipServiceCampaignRequest,
  type LeadershipServiceCampaignResponse,
  LeadershipServiceCampaignResponseSchema,
} from "../../gen/waymark/control/v1/leadership_pb.js";
import type { ClientCalls } from "../../src/client/calls.ts";
import { type LeaderTerm, lead } from "../../src/client/lead.io.ts";
import { failure, PlayedStream } from "../fakes/played-stream.ts";
import { until } from "../fakes/until.ts";

const SCOPE = "custom/orders/cleaner";
const LONG_MS = 60_000;

/** One stream of a campaign. */
class CampaignStream extends PlayedStream<LeadershipServiceCampaignRequest, LeadershipServiceCampaignResponse> {
  get hasResigned(): boolean {
    return this.requests.some(({ resign }) => resign);
  }

  override send(request: LeadershipServiceCampaignRequest): void {
    super.send(request);
    if (request.resign) this.end(undefined);
  }

  answer(init: MessageInitShape<typeof LeadershipServiceCampaignResponseSchema>): void {
    const { sentMs = 0n } = this.requests.at(-1) ?? {};
    this.play(create(LeadershipServiceCampaignResponseSchema, { sentMs, heartbeatInterval: durationFromMs(LONG_MS), ...init }));
  }

  elect(
    number: number,
    validForMs = LONG_MS,
    init: { readonly sentMs?: bigint; readonly term?: bigint; readonly heartbeatInterval?: Duration } = {},
  ): void {
    const fence = { failoverVersion: 0n, storeEpoch: 7n, number: BigInt(number) };
    this.answer({ state: CampaignState.LEADER, term: BigInt(number), fence, validFor: durationFromMs(validForMs), ...init });
  }

  depose(): void {
    this.answer({ state: CampaignState.CANDIDATE });
  }
}

function setUp(timeoutMs = LONG_MS) {
  const streams: CampaignStream[] = [];
  const failedOver: string[] = [];
  const failures: unknown[] = [];
  const client = {
    timeoutMs,
    get writeServer() {
      return `s${failedOver.length}`;
    },
    failOver: (server: string, error: unknown) => {
      failedOver.push(server);
      failures.push(error);
    },
    duplexAt: (server: string, _method: unknown, { signal }: { readonly signal?: AbortSignal } = {}) => {
      const stream = new CampaignStream(server, signal);
      streams.push(stream);
      return { send: (request: LeadershipServiceCampaignRequest) => stream.send(request), answers: stream.answers() };
    },
  } as unknown as ClientCalls;
  const opened = async (count: number): Promise<CampaignStream> => {
    await until(`stream ${count} is open`, () => streams.length >= count);
    const stream = streams[count - 1];
    if (stream === undefined) throw new Error("no stream");
    return stream;
  };
  /** Work that ends when the test says so, or when its term ends. */
  const terms: LeaderTerm[] = [];
  const done = Promise.withResolvers<string>();
  const work = (term: LeaderTerm) => {
    terms.push(term);
    const lost = Promise.withResolvers<string>();
    term.signal.addEventListener("abort", () => lost.reject(term.signal.reason), { once: true });
    return Promise.race([done.promise, lost.promise]);
  };
  const termed = async (count: number): Promise<LeaderTerm> => {
    await until(`term ${count} begins`, () => terms.length >= count);
    const term = terms[count - 1];
    if (term === undefined) throw new Error("no term");
    return term;
  };
  return { client, streams, failedOver, failures, opened, terms, termed, work, done };
}

test("the work runs in a term, and its result is returned after the program has resigned", async () => {
  const { client, opened, termed, work, done } = setUp();
  const result = lead(client, SCOPE, work, { holderId: "p1" });
  const stream = await opened(1);
  expect(stream.requests[0]).toMatchObject({ scope: SCOPE, holderId: "p1", resign: false });
  stream.depose();
  stream.elect(5);
  const term = await termed(1);
  expect(term).toMatchObject({ scope: SCOPE, number: 5, fence: { failoverVersion: 0, storeEpoch: 7, number: 5 } });
  expect(term.fenceText).toBe("custom/orders/cleaner;0.7.5");
  expect([term.isValid(), term.signal.aborted]).toEqual([true, false]);
  done.resolve("done");
  expect(await result).toBe("done");
  expect(stream.hasResigned).toBe(true);
  expect([term.isValid(), term.signal.aborted]).toEqual([false, true]);
});

test("an error of the work is returned after the program has resigned", async () => {
  const { client, opened, termed, work, done } = setUp();
  const result = lead(client, SCOPE, work);
  const stream = await opened(1);
  stream.elect(1);
  await termed(1);
  done.reject(new Error("disk full"));
  await expect(result).rejects.toThrow("disk full");
  expect(stream.hasResigned).toBe(true);
});

test("a deposed program reports when its work has ended, campaigns again, and works in its next term", async () => {
  const { client, opened, termed, work, done } = setUp();
  const result = lead(client, SCOPE, work);
  const stream = await opened(1);
  stream.elect(1);
  const first = await termed(1);
  stream.depose();
  await until("the program has resigned", () => stream.hasResigned);
  expect(first.signal.reason).toMatchObject({ message: `the program no longer leads ${SCOPE}` });
  const next = await opened(2);
  next.elect(3);
  expect((await termed(2)).number).toBe(3);
  done.resolve("done");
  expect(await result).toBe("done");
});

test("work that returns because its term has ended runs again", async () => {
  const { client, opened } = setUp();
  const numbers: number[] = [];
  const result = lead(client, SCOPE, async (term) => {
    numbers.push(term.number);
    if (term.number === 2) return "second";
    await new Promise((resolve) => {
      term.signal.addEventListener("abort", resolve, { once: true });
    });
    return "first";
  });
  (await opened(1)).elect(1);
  await until("the first term", () => numbers.length === 1);
  (await opened(1)).depose();
  (await opened(2)).elect(2);
  expect(await result).toBe("second");
});

test("a term ends at its deadline, which counts from the sending of the message", async () => {
  const { client, opened, termed, work, done } = setUp();
  const result = lead(client, SCOPE, work);
  const stream = await opened(1);
  const sentMs = Number(stream.requests[0]?.sentMs);
  stream.elect(1, 80);
  const term = await termed(1);
  await until("the term has ended", () => term.signal.aborted);
  expect(performance.now()).toBeGreaterThanOrEqual(sentMs + 80);
  expect(term.signal.reason).toMatchObject({ message: `the term for ${SCOPE} was not extended in time` });
  (await opened(2)).elect(2);
  done.resolve("done");
  await result;
});

test("a grant with another fence does not extend a term, even if the number of the term is the same", async () => {
  const { client, opened, termed, work, done } = setUp();
  const result = lead(client, SCOPE, work);
  const stream = await opened(1);
  stream.elect(4, 80, { term: 1n });
  const term = await termed(1);
  stream.elect(9, 2 * LONG_MS, { term: 1n });
  await until("the term has ended", () => term.signal.aborted);
  (await opened(2)).elect(9, LONG_MS, { term: 1n });
  expect(await termed(2)).toMatchObject({ number: 1, fence: { number: 9 } });
  done.resolve("done");
  await result;
});

test("an answer that arrives after its deadline begins no term", async () => {
  const { client, opened, terms, termed, work, done } = setUp();
  const result = lead(client, SCOPE, work);
  const stream = await opened(1);
  stream.elect(1, 50, { sentMs: BigInt(Math.floor(performance.now()) - 60) });
  stream.elect(2);
  expect((await termed(1)).number).toBe(2);
  expect(terms).toHaveLength(1);
  done.resolve("done");
  await result;
});

test("while the process cannot run timers, the term is invalid at its deadline", async () => {
  const { client, opened, termed, work, done } = setUp();
  const result = lead(client, SCOPE, work);
  (await opened(1)).elect(1, 200);
  const term = await termed(1);
  const untilMs = performance.now() + 250;
  while (performance.now() < untilMs);
  expect([term.isValid(), term.signal.aborted]).toEqual([false, false]);
  (await opened(2)).elect(2);
  await termed(2);
  done.resolve("done");
  await result;
});

test("heartbeats at the suggested interval extend the term", async () => {
  const { client, opened, termed, work, done } = setUp();
  const result = lead(client, SCOPE, work);
  const stream = await opened(1);
  stream.elect(1, 1000, { heartbeatInterval: durationFromMs(20) });
  const term = await termed(1);
  await until("the next heartbeat", () => stream.requests.length > 1);
  stream.elect(1, LONG_MS);
  await until("the first grant is over", () => performance.now() > Number(stream.requests[0]?.sentMs) + 1000);
  expect(term.isValid()).toBe(true);
  done.resolve("done");
  await result;
});

test("a broken stream does not end the term, and the program campaigns on another server immediately", async () => {
  const { client, opened, terms, termed, work, done } = setUp();
  const result = lead(client, SCOPE, work);
  const stream = await opened(1);
  stream.elect(1, 300);
  const term = await termed(1);
  stream.end(failure("UNAVAILABLE"));
  const next = await opened(2);
  next.depose();
  next.elect(2, LONG_MS);
  expect(term.isValid()).toBe(true);
  await until("the first term has ended", () => term.signal.aborted);
  expect(terms).toHaveLength(1);
  next.elect(2, LONG_MS);
  expect((await termed(2)).number).toBe(2);
  expect(next.hasResigned).toBe(false);
  done.resolve("done");
  await result;
});

test.each([
  { name: "no answer at all", answers: 0 },
  { name: "no further answer", answers: 1 },
])("a server with $name is replaced by another one", async ({ answers }) => {
  const { client, opened, failedOver, termed, work, done } = setUp(60);
  const result = lead(client, SCOPE, work);
  const stream = await opened(1);
  if (answers > 0) stream.answer({ state: CampaignState.CANDIDATE, heartbeatInterval: durationFromMs(20) });
  const next = await opened(2);
  expect(failedOver).toEqual(["s0"]);
  expect(next.server).toBe("s1");
  next.elect(1);
  await termed(1);
  done.resolve("done");
  await result;
});

test.each(["RESOURCE_EXHAUSTED", "UNAVAILABLE"])("a server that rejects the campaign with %s is replaced by another one", async (code) => {
  const { client, opened, failures, termed, work, done } = setUp();
  const result = lead(client, SCOPE, work);
  const rejection = failure(code);
  (await opened(1)).end(rejection);
  const next = await opened(2);
  expect(next.server).toBe("s1");
  // The client distinguishes a server that is away from a resolver, which still serves reads.
  expect(failures).toEqual([rejection]);
  next.elect(1);
  await termed(1);
  done.resolve("done");
  await result;
});

test("a rejection that a retry cannot change ends the campaign and the work", async () => {
  const { client, opened, termed, work } = setUp();
  const result = lead(client, SCOPE, work);
  const stream = await opened(1);
  stream.elect(1);
  const term = await termed(1);
  const denied = failure("PERMISSION_DENIED");
  stream.end(denied);
  await expect(result).rejects.toBe(denied);
  expect(term.signal.reason).toBe(denied);
});

test("a campaign is aborted with the reason of its signal, before and after an election", async () => {
  for (const isElected of [false, true]) {
    const { client, opened, streams, failedOver, termed, work } = setUp();
    const abort = new AbortController();
    const result = lead(client, SCOPE, work, { signal: abort.signal });
    const stream = await opened(1);
    if (isElected) {
      stream.elect(1);
      await termed(1);
    }
    const reason = new Error("stop");
    abort.abort(reason);
    await expect(result).rejects.toBe(reason);
    expect([stream.hasResigned, stream.isOver, streams.length, failedOver]).toEqual([isElected, true, 1, []]);
    await expect(lead(client, SCOPE, work, { signal: abort.signal })).rejects.toBe(reason);
  }
});

test.each([
  { call: () => ["orders", 7, {}], message: "lead: invalid work 7: expected a function" },
  { call: () => [1, () => 1, {}], message: "lead: invalid scope 1: expected a string" },
  { call: () => ["orders", () => 1, { holder: "x" }], message: "lead: unknown option holder; the options are holderId, signal" },
])("$message", async ({ call, message }) => {
  const { client } = setUp();
  const [scope, work, options] = call();
  await expect(lead(client, scope as string, work as () => number, options as object)).rejects.toThrow(message);
});
