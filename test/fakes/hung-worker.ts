/** The read workers of a node in this process: each thread as it starts, and what keeps one busy so that it hears nothing. */
import { subscribe } from "node:diagnostics_channel";
import type { Worker } from "node:worker_threads";
import type { ToWorker } from "../../src/node/workers/messages.ts";

/** Tells of the thread of each read worker that starts from now on, with its name: `reads 1`. */
export function onReadWorker(tell: (thread: Worker, name: string) => void): void {
  subscribe("worker_threads", (message) => {
    const { worker } = message as { readonly worker: Worker };
    const { threadName } = worker;
    if (threadName?.startsWith("reads ") === true) tell(worker, threadName);
  });
}

/** Each byte is an order that a worker does not know. */
type Hanging = Omit<ToWorker, "orders"> & { readonly orders: Uint8Array<ArrayBuffer> };

/** One message is not enough: a quick machine has read its orders within a minute. */
const MESSAGES = 4;

/** Says to a read worker what it is at for minutes: meanwhile it hears nothing else. */
export function hang(thread: Worker): void {
  for (let n = 0; n < MESSAGES; n++) keepBusy(thread);
}

function keepBusy(thread: Worker): void {
  const orders = new Uint8Array(4_000_000_000);
  const message = {
    number: 0,
    received: 0,
    changes: { numbers: new Float64Array(), bytes: new Uint8Array(), texts: [], values: [] },
    isAwaited: false,
    facts: {
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
    },
    report: undefined,
    answers: [],
    verdicts: [],
    replies: [],
    orders,
  } satisfies Hanging;
  thread.postMessage(message, [orders.buffer]);
}
