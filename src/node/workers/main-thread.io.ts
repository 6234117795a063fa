/** The main thread of the node as a worker has it: what is said to it, and what it answers. */
import type { MetricSeries, Metrics } from "../../lib/metrics/metrics.ts";
import type { AuditEvent, AuditSink } from "../../policy/audit/record.ts";
import type { WatchNews } from "../../policy/limits/host-watches.ts";
import type { CallRequests } from "../../services/forwarding/messages.ts";
import type { NodeEnd } from "./channel.io.ts";
import type { FromWorker, ToWorker, WorkerNotice, WorkerQuestion, WorkerReply } from "./messages.ts";

/** What was heard is confirmed this often, also when there is nothing else to say. */
const SAY_MS = 100;
/** Most audit events that the main thread has not heard of. More are lost, and counted. */
const MAX_EVENTS = 20_000;

/** What others have to say when a message goes. */
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
  #heardNumber = 0;
  /** The messages with audit events that the main thread has not heard. */
  #unheardEvents: { readonly number: number; readonly count: number }[] = [];
  #eventCount = 0;
  #lastQuestion = 0;
  readonly #asked = new Map<number, (reply: WorkerReply) => void>();

  constructor(node: Pick<NodeEnd, "post">, metrics: Metrics) {
    this.#node = node;
    this.#lost = metrics.counter("waymark_audit_lost_total", {});
  }

  /** From now on messages go, those that wait first. */
  begin(messageSources: MessageSources): void {
    this.#messageSources = messageSources;
    setInterval(() => this.say(), SAY_MS).unref();
    this.#say();
  }

  /** There is something to say: at the end of this turn of the event loop it is said. `add` puts it into the message. */
  say(add?: (message: OutgoingItems) => void): void {
    add?.(this.#waiting);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#say();
    });
  }

  done(done: WorkerNotice): void {
    this.say((message) => message.done.push(done));
  }

  ask(question: { readonly kind: "caughtUp" | "report" } | { readonly kind: "scrape"; readonly accept: string }): Promise<WorkerReply> {
    const id = ++this.#lastQuestion;
    return new Promise((resolve) => {
      this.#asked.set(id, resolve);
      this.say(({ questions }) => questions.push({ ...question, id }));
    });
  }

  /** Passes an event on to the audit log of the node. */
  record(event: AuditEvent): void {
    if (this.#eventCount >= MAX_EVENTS) {
      this.#lost.inc();
      return;
    }
    this.#eventCount += 1;
    this.say(({ events }) => events.push(event));
  }

  /** To be called with each message, when all that it says is done. */
  heard({ number, heard, replies }: ToWorker): void {
    this.#heardNumber = number;
    for (const over of this.#unheardEvents.filter((message) => message.number <= heard)) this.#eventCount -= over.count;
    this.#unheardEvents = this.#unheardEvents.filter((message) => message.number > heard);
    for (const reply of replies) {
      this.#asked.get(reply.id)?.(reply);
      this.#asked.delete(reply.id);
    }
  }

  #say(): void {
    const messageSources = this.#messageSources;
    if (messageSources === undefined) return;
    const { takeCalls, connectionCount, policy } = messageSources;
    this.#lastNumber += 1;
    const placed = { number: this.#lastNumber, heard: this.#heardNumber, connectionCount: connectionCount(), policy: policy() };
    const message: FromWorker = { ...placed, calls: takeCalls(), ...this.#waiting };
    this.#waiting = nothing();
    if (message.events.length > 0) this.#unheardEvents.push({ number: this.#lastNumber, count: message.events.length });
    this.#node.post(message);
  }
}

function nothing(): OutgoingItems {
  return { watches: [], events: [], questions: [], done: [] };
}
