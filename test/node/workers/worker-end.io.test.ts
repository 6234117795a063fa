/** What a node holds for a worker that hears nothing: it has a bound, beyond which the worker is ended. */
import { expect, test } from "vitest";
import type { CopyFeed } from "../../../src/node/core/copies/copy-feed.ts";
import type { FromWorker, ToWorker } from "../../../src/node/workers/messages.ts";
import { WorkerEnd } from "../../../src/node/workers/worker-end.io.ts";
import { ForwardedCalls } from "../../../src/services/forwarding/forwarded-calls.ts";

const MIB = 1024 * 1024;
const MAX_MIB = 8;

const FACTS = {
  isReady: true,
  isSound: true,
  isWhole: true,
  isServing: true,
  hasDns: true,
  hasPeers: false,
  ageMs: 0,
  isShared: false,
  unreachable: undefined,
  startRefusal: undefined,
  endedStaticCount: 0,
  zoneSerials: undefined,
};

const START = {
  role: "dns",
  number: 1,
  settings: {} as never,
  origins: undefined,
  version: "test",
  nodeId: "n1",
  generation: 1,
  boot: "b",
  uptimeMs: 0,
  limits: { kind: "part", of: 1 },
  zoneSerials: undefined,
  cookieSecret: new Uint8Array(16),
  routes: {},
  logFormat: "json",
} as const;

/** A worker of which this test is the other end, fed with a MiB a message. */
function openWorker() {
  const said: ToWorker[] = [];
  const ended: unknown[] = [];
  let isTerminated = false;
  let tell: (from: FromWorker) => void = () => {};
  const feed = {
    isWhole: true,
    waitingBytes: 0,
    take: () => ({ numbers: new Float64Array(1), bytes: new Uint8Array(MIB), texts: [], values: [] }),
    close: () => {},
  };
  const end = new WorkerEnd({
    open: (_start, { onMessage, onExit }) => {
      tell = onMessage;
      return {
        post: (message) => void said.push(message),
        terminate: () => {
          isTerminated = true;
          onExit();
        },
      };
    },
    what: "DNS process",
    maxUnconfirmedBytes: MAX_MIB * MIB,
    start: START,
    feed: feed as unknown as CopyFeed,
    calls: new ForwardedCalls({
      services: [],
      now: () => ({ monoMs: 0, wallMs: 0 }),
      onBug: () => {},
      wake: () => {},
      turn: { mayAct: () => true, wait: () => {} },
    }),
    facts: () => FACTS,
    onMessage: () => {},
    onEnd: (error) => ended.push(error),
  });
  const hear = (received: number) =>
    tell({
      number: 1,
      received,
      calls: undefined,
      watches: [],
      events: [],
      questions: [],
      done: [],
      connectionCount: 0,
      policy: { shown: 0, delivered: 0 },
    });
  const sayOnce = async () => {
    end.schedule();
    await new Promise((resolve) => setImmediate(resolve));
    end.look();
  };
  return { said, ended, sayOnce, hear, isTerminated: () => isTerminated };
}

test("a worker that leaves more unheard than the bound is ended, and nothing more is said to it", async () => {
  const worker = openWorker();
  for (let n = 0; n < MAX_MIB; n++) await worker.sayOnce();
  const count = worker.said.length;
  await worker.sayOnce();
  expect([count <= MAX_MIB + 1, worker.isTerminated()]).toEqual([true, true]);
  expect(worker.ended).toMatchObject([{ message: "the worker no longer confirms messages" }]);
  const last = worker.said.length;
  await worker.sayOnce();
  expect(worker.said).toHaveLength(last);
});

test("a worker that hears as fast as it is told goes on, however much that is", async () => {
  const worker = openWorker();
  for (let n = 0; n < 5 * MAX_MIB; n++) {
    await worker.sayOnce();
    worker.hear(worker.said.length);
  }
  expect([worker.isTerminated(), worker.ended]).toEqual([false, []]);
});
