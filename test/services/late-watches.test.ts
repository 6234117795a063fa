import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CatalogWatchRequestSchema, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import { HostWatches, type WatchNews, type WatchVerdict, WorkerWatches } from "../../src/policy/limits/host-watches.ts";
import { NamespaceQuotas } from "../../src/policy/limits/quotas.ts";
import { RateLimiter } from "../../src/policy/limits/rate-limits.ts";
import { admitted } from "../../src/services/admission.ts";
import type { CallContext, StreamSource } from "../../src/services/service.ts";

const CALLER: Caller = { ...anonymousCaller("local", "192.0.2.1"), tenant: "acme", principal: "app" };
const CONTEXT: CallContext = { caller: CALLER, time: { monoMs: 0, wallMs: 0 }, requestId: "r" };
const RATES = { readsPerMinute: 0, writesPerMinute: 0, namespaceReadsPerMinute: 0, namespaceWritesPerMinute: 0 };

/** Counts of the whole node, as the main thread has them: two watches in a namespace, three of a caller. */
function counts() {
  const refused: string[] = [];
  const onRefusal = ({ reason, action }: { reason: string; action: string }) => refused.push(`${reason} ${action}`);
  const limits = new RateLimiter({ ...RATES, watches: 3, windowMs: 60_000, maxKeys: 100 }, onRefusal);
  const quotas = new NamespaceQuotas({
    namespaceQuota: () => ({ entries: 0, watches: 2, bytes: 0 }),
    tenantQuota: () => ({ entries: 0, watches: 0, bytes: 0 }),
    namespaceUsage: () => ({ entries: 0, bytes: 0 }),
    tenantUsage: () => ({ entries: 0, bytes: 0 }),
    sees: () => true,
    isSet: () => true,
    onRefusal,
  });
  const open = (caller: Caller, namespace: string) => {
    const release = limits.openWatch(caller);
    try {
      const leave = quotas.openWatch(caller, namespace);
      return () => {
        release();
        leave();
      };
    } catch (error) {
      release();
      throw error;
    }
  };
  return {
    open,
    refused,
    held: () => [limits.watcherCount, quotas.watchCount("namespace", "svc"), quotas.watchCount("namespace", "other")],
  };
}

/** A stream as a listener has it: what it pulled, and how it ended. */
class Stream {
  readonly pulled: string[] = [];
  readonly source: StreamSource;

  constructor(source: StreamSource) {
    this.source = source;
    source.attach(
      () => this.pull(),
      () => this.pulled.push("end"),
    );
    this.pull();
  }

  pull(): void {
    try {
      const bytes = this.source.pull(CONTEXT.time);
      if (bytes !== undefined) this.pulled.push(`${bytes[0]} drained ${this.source.isDrained === true}`);
    } catch (error) {
      this.pulled.push(error instanceof Error ? error.message : "fault");
    }
  }
}

/** A host with two workers. Messages wait until `deliver`. */
function host() {
  const main = counts();
  const desk = new HostWatches(main.open);
  let toMain: { readonly worker: number; readonly news: WatchNews }[] = [];
  const opened: string[] = [];
  const workers = [1, 2].map((worker) => {
    const asked = new WorkerWatches((news) => toMain.push({ worker, news: structuredClone(news) }));
    const open = (request: { readonly cursor: string; readonly namespace: string }): StreamSource => {
      if (request.cursor === "bad") throw new WaymarkError("invalid_argument", "cursor: bad");
      opened.push(`${worker} opens ${request.namespace}`);
      const source = { isDrained: true, attach: () => undefined, pull: () => new Uint8Array([7]) };
      return { ...source, close: () => opened.push(`${worker} closes ${request.namespace}`) };
    };
    const service = admitted(
      { desc: DiscoveryService, handlers: { catalogWatch: { kind: "server_streaming", open } } },
      { admitIn: undefined, openWatch: (caller, namespace) => asked.open(caller, namespace) },
    );
    const watch = (namespace: string, cursor = "") => {
      const handler = service.handlers["catalogWatch"];
      if (handler?.kind !== "server_streaming") throw new Error("no watch");
      return new Stream(handler.open(create(CatalogWatchRequestSchema, { namespace, cursor }) as never, CONTEXT));
    };
    return { asked, watch };
  });
  const answer = (worker: number, verdict: WatchVerdict | undefined) => {
    if (verdict !== undefined) workers[worker - 1]?.asked.take(structuredClone(verdict));
  };
  const deliver = async () => {
    const messages = toMain;
    toMain = [];
    for (const { worker, news } of messages) answer(worker, desk.take(worker, news));
    await Promise.resolve();
    await Promise.resolve();
    await Promise.resolve();
  };
  const [one, two] = workers;
  if (one === undefined || two === undefined) throw new Error("no workers");
  return { main, desk, one, two, opened, deliver };
}

function refusal(act: () => unknown): WaymarkError {
  try {
    act();
  } catch (error) {
    if (error instanceof WaymarkError) return error;
  }
  throw new Error("not refused");
}

test("two workers that open watches in the same turn get as many as the bounds allow, and not one more", async () => {
  const { one, two, main, opened, deliver } = host();
  const streams = [one.watch("svc"), two.watch("svc"), one.watch("svc"), two.watch("other"), one.watch("other")];
  expect(opened).toEqual([]);
  await deliver();
  expect(opened).toEqual(["1 opens svc", "2 opens svc", "2 opens other"]);
  expect(streams.map(({ pulled }) => pulled[0]?.split(":")[0])).toEqual([
    "7 drained true",
    "7 drained true",
    "quota_exceeded",
    "7 drained true",
    "discovery_rate_limited",
  ]);
  expect([main.held(), main.refused]).toEqual([
    [1, 2, 1],
    ["quota_exceeded watch", "rate_limited watch"],
  ]);
});

test("a refusal is the error that a lone thread gives: reason, text, facts and when to try again", async () => {
  const lone = counts();
  const { one, two, deliver } = host();
  for (const namespace of ["svc", "svc"]) {
    lone.open(CALLER, namespace);
    one.watch(namespace);
  }
  const first = two.asked.open(CALLER, "svc").catch((error: unknown) => error);
  const expected = [refusal(() => lone.open(CALLER, "svc"))];
  lone.open(CALLER, "other");
  one.watch("other");
  const second = two.asked.open(CALLER, "other").catch((error: unknown) => error);
  expected.push(refusal(() => lone.open(CALLER, "other")));
  await deliver();
  expect([await first, await second]).toEqual(expected);
  expect(expected.map(({ details }) => details)).toEqual([
    { metadata: { namespace: "svc", bound: "watches", max: "2", current: "2" } },
    { retryMs: 5000 },
  ]);
});

test("a watch is counted no more when it closes, when its handler refuses it, and when its client left before the answer", async () => {
  const { one, two, main, desk, opened, deliver } = host();
  const open = one.watch("svc");
  const bad = two.watch("svc", "bad");
  await deliver();
  expect(bad.pulled).toEqual(["invalid_argument: cursor: bad"]);
  const gone = two.watch("other");
  gone.source.close();
  await deliver();
  open.source.close();
  await deliver();
  expect([opened, main.held()]).toEqual([
    ["1 opens svc", "2 opens other", "2 closes other", "1 closes svc"],
    [0, 0, 0],
  ]);
  expect([desk.size, one.asked.size, two.asked.size]).toEqual([0, 0, 0]);
});

test("a worker that ends takes its own watches out of the count, and those of others stay", async () => {
  const { one, two, main, desk, deliver } = host();
  one.watch("svc");
  two.watch("svc");
  await deliver();
  desk.forget(1);
  expect([main.held(), desk.size]).toEqual([[1, 1, 0], 1]);
  desk.take(1, { kind: "close", id: 1 });
  desk.forget(1);
  two.watch("svc");
  await deliver();
  expect(main.held()).toEqual([1, 2, 0]);
});

test("a fault of the main thread is not sent as an answer", () => {
  const desk = new HostWatches(() => {
    throw new TypeError("a bug");
  });
  expect(() => desk.take(1, { kind: "open", id: 1, caller: CALLER, namespace: "" })).toThrow("a bug");
});
