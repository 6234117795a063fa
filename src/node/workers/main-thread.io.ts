/** A worker's connection to the main thread of the node: messages to the main thread, and its replies. */
import type { MetricSeries, Metrics } from "../../lib/metrics/metrics.ts";
import type { AuditEvent, AuditSink } from "../../policy/audit/record.ts";
import type { WatchNews } from "../../policy/limits/host-watches.ts";
import type { CallRequests } from "../../services/forwarding/messages.ts";
import type { NodeEnd } from "./channel.io.ts";
import type { FromWorker, ToWorker, WorkerNotice, WorkerQuestion, WorkerReply } from "./messages.ts";

/** Interval at which received messages are confirmed, in ms, even if there is nothing else to send. */
const SEND_MS = 100;
/** Maximum number of audit events that the main thread has not confirmed. Any further events are lost, but are counted. */
const MAX_EVENTS = 20_000;

/** Content that other parts add when a message is sent. */
export interface MessageSources {
  readonly takeCalls: () => CallRequests | undefined;
  readonly connectionCount: () => number;
  readonly policy: () => FromWorker["policy"];
}

interface OutgoingItems {
  readonly watches: WatchNews[];
  readonly events: AuditEvent[];
  readonly questions: WorkerQuestion[];
  readonly done: WorkerNotice[];
}

export class MainThread implements Pick<AuditSink, "record"> {
  readonly #node: Pick<NodeEnd, "post">;
  readonly #lost: MetricSeries;
  #messageSources: MessageSources | undefined;
  #waiting = nothing();
  #isScheduled = false;
  #lastNumber = 0;
  #receivedNumber = 0;
  /** Messages with audit events that the main thread has not confirmed. */
  #unconfirmedEvents: { readonly number: number; readonly count: number }[] = [];
  #eventCount = 0;
  #lastQuestion = 0;
  readonly #pending = new Map<number, (reply: WorkerReply) => void>();

  constructor(node: Pick<NodeEnd, "post">, metrics: Metrics) {
    this.#node = node;
    this.#lost = metrics.counter("waymark_audit_lost_total", {});
  }

  /** Starts sending. Pending items are sent first. */
  begin(messageSources: MessageSources): void {
    this.#messageSources = messageSources;
    setInterval(() => this.schedule(), SEND_MS).unref();
    this.#send();
  }

  /** Schedules a message for the end of this turn of the event loop. `add` adds an item to the message. */
  schedule(add?: (message: OutgoingItems) => void): void {
    add?.(this.#waiting);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#send();
    });
  }

  done(done: WorkerNotice): void {
    this.schedule((message) => message.done.push(done));
  }

  ask(question: { readonly kind: "caughtUp" | "report" } | { readonly kind: "scrape"; readonly accept: string }): Promise<WorkerReply> {
    const id = ++this.#lastQuestion;
    return new Promise((resolve) => {
      this.#pending.set(id, resolve);
      this.schedule(({ questions }) => questions.push({ ...question, id }));
    });
  }

  /** Forwards an event to the node's audit log. */
  record(event: AuditEvent): void {
    if (this.#eventCount >= MAX_EVENTS) {
      this.#lost.inc();
      return;
    }
    this.#eventCount += 1;
    this.schedule(({ events }) => events.push(event));
  }

  /** Must be called with each message after it is handled. */
  received({ number, received, replies }: ToWorker): void {
    this.#receivedNumber = number;
    for (const over of this.#unconfirmedEvents.filter((message) => message.number <= received)) this.#eventCount -= over.count;
    this.#unconfirmedEvents = this.#unconfirmedEvents.filter((message) => message.number > received);
    for (const reply of replies) {
      this.#pending.get(reply.id)?.(reply);
      this.#pending.delete(reply.id);
    }
  }

  #send(): void {
    const messageSources = this.#messageSources;
    if (messageSources === undefined) return;
    const { takeCalls, connectionCount, policy } = messageSources;
    this.#lastNumber += 1;
    const placed = { number: this.#lastNumber, received: this.#receivedNumber, connectionCount: connectionCount(), policy: policy() };
    const message: FromWorker = { ...placed, calls: takeCalls(), ...this.#waiting };
    this.#waiting = nothing();
    if (message.events.length > 0) this.#unconfirmedEvents.push({ number: this.#lastNumber, count: message.events.length });
    this.#node.post(message);
  }
}

function nothing(): OutgoingItems {
  return { watches: [], events: [], questions: [], done: [] };
}
