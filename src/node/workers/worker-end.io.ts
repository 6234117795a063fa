/** The main thread's connection to one worker: messages to the worker, and messages from it. */
import { WaymarkError } from "../../lib/errors.ts";
import { stallAwareDueMs, stallAwareNowMs } from "../../lib/stall-aware-time.io.ts";
import type { WatchVerdict } from "../../policy/limits/host-watches.ts";
import type { ForwardedCalls } from "../../services/forwarding/forwarded-calls.ts";
import type { CallAnswers } from "../../services/forwarding/messages.ts";
import type { CopyFeed } from "../core/copies/copy-feed.ts";
import type { ListenEndpoints, SharedPorts } from "../core/endpoints.ts";
import type { StartWorker, WorkerChannel } from "./channel.io.ts";
import type {
  FromWorker,
  NodeReport,
  ReplicatedNodeState,
  ToWorker,
  WorkerNotice,
  WorkerOrder,
  WorkerReply,
  WorkerStart,
} from "./messages.ts";

/** Maximum number of records per message while a copy is being made. */
const SLICE_COUNT = 2000;
/** While a copy is being made, sending pauses when this many bytes are unconfirmed. A worker handles all pending messages in one turn, and confirms them only after that. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;
/**
 * A worker that does not confirm any message for this long, in ms, is terminated: writers and policy changes wait for it, and its pending messages
 * would fill the memory.
 */
const MAX_SILENT_MS = 10_000;
/** The same limit, in ms, before the copy is complete and the worker serves readers. On a busy machine, a thread may take a long time to load. */
const MAX_SILENT_START_MS = 60_000;

export interface WorkerEndParts {
  readonly open: StartWorker;
  /** Name of the worker's role in messages, for example "read worker". */
  readonly what: string;
  /** A worker with more unconfirmed bytes than this is terminated. */
  readonly maxUnconfirmedBytes: number;
  readonly start: WorkerStart;
  readonly feed: CopyFeed;
  readonly calls: ForwardedCalls;
  readonly facts: () => ReplicatedNodeState;
  /** Called with each message. The calls in the message may still be queued. */
  readonly onMessage: (message: FromWorker) => void;
  /** Called when the worker has ended. `error`: its uncaught error, or the reason why it was terminated. */
  readonly onEnd: (error: unknown) => void;
}

/** Content of the next message. */
interface OutgoingMessage {
  readonly answers: CallAnswers[];
  report: NodeReport | undefined;
  readonly verdicts: WatchVerdict[];
  readonly replies: WorkerReply[];
  readonly orders: WorkerOrder[];
}

interface AwaitedReply {
  readonly kind: WorkerNotice["kind"];
  readonly resolve: (done: WorkerNotice) => void;
  readonly reject: (error: Error) => void;
}

export class WorkerEnd {
  readonly number: number;
  readonly #parts: WorkerEndParts;
  readonly #channel: WorkerChannel;
  #waiting = nothing();
  #isScheduled = false;
  /**
   * Numbers of messages to the worker: the last one, the last one with catalog changes, the last one that must be confirmed immediately, and the last
   * confirmed one.
   */
  #sentNumber = 0;
  #newsNumber = 0;
  #awaitedNumber = 0;
  #confirmedNumber = 0;
  /** The number of the last message from the worker. */
  #receivedNumber = 0;
  /** Sizes of the unconfirmed messages. */
  readonly #unconfirmed: { readonly number: number; readonly bytes: number }[] = [];
  #unconfirmedBytes = 0;
  /** When the worker last confirmed a message, or last had none to confirm. */
  #confirmedPatientMs = stallAwareNowMs();
  #confirmWaiters: { readonly number: number; readonly resolve: () => void }[] = [];
  #awaited: AwaitedReply[] = [];
  /** Whether the worker has reported that its copy is complete. The worker opens its listeners only after that. */
  #isWhole = false;
  #hasEnded = false;
  #error: unknown;
  connectionCount = 0;

  constructor(parts: WorkerEndParts) {
    this.#parts = parts;
    this.number = parts.start.number;
    this.#channel = parts.open(parts.start, {
      onMessage: (message) => this.#receive(message),
      onError: (error) => {
        this.#error ??= error;
      },
      onExit: () => this.#end(),
    });
    this.schedule();
  }

  /** Schedules a message for the end of this turn of the event loop. `add` adds an item to the message. */
  schedule(add?: (message: OutgoingMessage) => void): void {
    if (this.#hasEnded) return;
    add?.(this.#waiting);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#send();
    });
  }

  /**
   * Resolves when the worker has received everything that has happened until now, or has ended. Undefined if the worker already has, or if it does
   * not serve readers yet.
   */
  confirmed(): Promise<void> | undefined {
    const { feed } = this.#parts;
    if (this.#hasEnded || !this.#isWhole) return undefined;
    // Without this message, the worker would confirm earlier messages only when it has something to send itself.
    if (feed.waitingBytes > 0 || (this.#newsNumber > this.#confirmedNumber && this.#newsNumber > this.#awaitedNumber)) this.#send(true);
    return this.#newsNumber <= this.#confirmedNumber ? undefined : this.#confirmedUpTo(this.#newsNumber);
  }

  /**
   * Sends the current facts, and resolves when the worker has received them or has ended. Resolves immediately if the worker does not serve readers
   * yet.
   */
  async synced(): Promise<void> {
    if (this.#hasEnded || !this.#isWhole) return;
    this.#send(true);
    await this.#confirmedUpTo(this.#sentNumber);
  }

  #confirmedUpTo(number: number): Promise<void> {
    return new Promise((resolve) => this.#confirmWaiters.push({ number, resolve }));
  }

  /** Resolves with the next notification of this kind from the worker. Rejects if the worker has ended. */
  done<K extends WorkerNotice["kind"]>(kind: K): Promise<Extract<WorkerNotice, { readonly kind: K }>> {
    return new Promise((resolve, reject) => {
      if (this.#hasEnded) reject(this.#gone());
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only a notice of this kind resolves it
      else this.#awaited.push({ kind, resolve: resolve as AwaitedReply["resolve"], reject });
    });
  }

  /** Opens the worker's listeners. Rejects with a message for the operator. */
  async listen(shared: SharedPorts): Promise<ListenEndpoints> {
    const listening = this.done("listening");
    const refused = this.done("notListening").then(({ message }) => {
      throw new Error(message);
    });
    this.schedule(({ orders }) => orders.push({ kind: "listen", shared }));
    return (await Promise.race([listening, refused])).endpoints;
  }

  /** Terminates a worker that no longer confirms messages. Must be called a few times per second. */
  look(): void {
    if (this.#unconfirmed.length === 0) this.#confirmedPatientMs = stallAwareNowMs();
    const maxMs = this.#isWhole ? MAX_SILENT_MS : MAX_SILENT_START_MS;
    const isSilent = stallAwareDueMs() - this.#confirmedPatientMs > maxMs;
    if (isSilent || this.#unconfirmedBytes > this.#parts.maxUnconfirmedBytes)
      this.terminate(new Error("the worker no longer confirms messages"));
  }

  terminate(why?: Error): void {
    this.#error ??= why;
    this.#channel.terminate();
  }

  #send(isAwaited = false): void {
    const { feed, facts } = this.#parts;
    if (this.#hasEnded || (!feed.isWhole && this.#unconfirmedBytes > MAX_WAITING_BYTES)) return;
    this.#sentNumber += 1;
    if (isAwaited) this.#awaitedNumber = this.#sentNumber;
    const changes = feed.take(SLICE_COUNT);
    if (changes.numbers.length > 0) this.#newsNumber = this.#sentNumber;
    const bytes = changes.bytes.length + changes.numbers.byteLength;
    this.#unconfirmed.push({ number: this.#sentNumber, bytes });
    this.#unconfirmedBytes += bytes;
    const placed = { number: this.#sentNumber, received: this.#receivedNumber, changes, isAwaited, facts: facts() };
    const message: ToWorker = { ...placed, ...this.#waiting };
    this.#waiting = nothing();
    this.#channel.post(message);
    if (!feed.isWhole) this.schedule();
  }

  /** Because the node is stopping, ends the forwarded streams that would otherwise never end. */
  drain(error: WaymarkError): void {
    this.#parts.calls.drain(error);
  }

  #receive(message: FromWorker): void {
    // The last message from a process may arrive after the process has ended.
    if (this.#hasEnded) return;
    this.#receivedNumber = message.number;
    this.connectionCount = message.connectionCount;
    this.#confirm(message.received);
    const { calls, feed, onMessage } = this.#parts;
    if (message.calls !== undefined) calls.hear(message.calls);
    for (const done of message.done) {
      this.#isWhole ||= done.kind === "whole";
      const over = this.#awaited.filter(({ kind }) => kind === done.kind);
      this.#awaited = this.#awaited.filter(({ kind }) => kind !== done.kind);
      for (const { resolve } of over) resolve(done);
    }
    onMessage(message);
    // The rest of the copy may have been waiting for this confirmation.
    if (!feed.isWhole) this.schedule();
  }

  #confirm(number: number): void {
    if (number <= this.#confirmedNumber) return;
    this.#confirmedNumber = number;
    this.#confirmedPatientMs = stallAwareNowMs();
    const count = this.#unconfirmed.findIndex((message) => message.number > number);
    for (const { bytes } of this.#unconfirmed.splice(0, count < 0 ? this.#unconfirmed.length : count)) this.#unconfirmedBytes -= bytes;
    for (const { resolve } of this.#confirmWaiters.filter((each) => each.number <= number)) resolve();
    this.#confirmWaiters = this.#confirmWaiters.filter((each) => each.number > number);
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.connectionCount = 0;
    const { feed, calls, onEnd } = this.#parts;
    feed.close();
    calls.close();
    for (const { resolve } of this.#confirmWaiters.splice(0)) resolve();
    for (const { reject } of this.#awaited.splice(0)) reject(this.#gone());
    onEnd(this.#error);
  }

  #gone(): Error {
    const why = this.#error instanceof Error ? `: ${this.#error.message}` : "";
    return new WaymarkError("draining", `${this.#parts.what} ${this.number} has ended${why}`);
  }
}

function nothing(): OutgoingMessage {
  return { answers: [], report: undefined, verdicts: [], replies: [], orders: [] };
}
