/** One worker as the main thread has it: what it is told, and what it says. */
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

/** Records that are said at once while a copy is made. */
const SLICE_COUNT = 2000;
/** While a copy is made, nothing is said as long as so much is not heard. A worker hears all that waits in one go, and says so only afterwards. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;
/** A worker that hears nothing for so long is ended: writers and changes of policy wait for it, and what it is to be told would fill the memory. */
const MAX_SILENT_MS = 10_000;
/** Until its copy is whole, nobody reads at it. On a busy machine a thread may take long to load. */
const MAX_SILENT_START_MS = 60_000;

export interface WorkerEndParts {
  readonly open: StartWorker;
  /** What it is for people: "read worker". */
  readonly what: string;
  /** A worker that leaves so much unheard is ended. */
  readonly maxUnheardBytes: number;
  readonly start: WorkerStart;
  readonly feed: CopyFeed;
  readonly calls: ForwardedCalls;
  readonly facts: () => ReplicatedNodeState;
  /** Called with each message. Its calls may still wait for their turns. */
  readonly onHeard: (said: FromWorker) => void;
  /** The worker is gone. `error`: what it did not catch, or why it was ended. */
  readonly onEnd: (error: unknown) => void;
}

/** What waits for the next message. */
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
  /** Numbers of messages to the worker: the last one, the last one with news of the catalog, the last one that it is to confirm at once, and the last one that it has heard. */
  #saidNumber = 0;
  #newsNumber = 0;
  #awaitedNumber = 0;
  #coveredNumber = 0;
  /** The number of the last message from the worker. */
  #heardNumber = 0;
  /** Sizes of the messages that it has not heard. */
  readonly #unheard: { readonly number: number; readonly bytes: number }[] = [];
  #unheardBytes = 0;
  /** When the worker last heard something, or had nothing to hear. */
  #heardPatientMs = stallAwareNowMs();
  #uncovered: { readonly number: number; readonly resolve: () => void }[] = [];
  #awaited: AwaitedReply[] = [];
  /** It has said that its copy is whole. It opens listeners only afterwards. */
  #isWhole = false;
  #hasEnded = false;
  #error: unknown;
  connectionCount = 0;

  constructor(parts: WorkerEndParts) {
    this.#parts = parts;
    this.number = parts.start.number;
    this.#channel = parts.open(parts.start, {
      onMessage: (said) => this.#hear(said),
      onError: (error) => {
        this.#error ??= error;
      },
      onExit: () => this.#end(),
    });
    this.say();
  }

  /** There is something to say: at the end of this turn of the event loop it is said. `add` puts it into the message. */
  say(add?: (message: OutgoingMessage) => void): void {
    if (this.#hasEnded) return;
    add?.(this.#waiting);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#say();
    });
  }

  /**
   * Resolves when the worker has heard of everything that happened until now, or is gone. Undefined if it has already, or if nobody reads at it
   * yet.
   */
  covered(): Promise<void> | undefined {
    const { feed } = this.#parts;
    if (this.#hasEnded || !this.#isWhole) return undefined;
    // Of what was said without this, it would speak only when it has something to say itself.
    if (feed.waitingBytes > 0 || (this.#newsNumber > this.#coveredNumber && this.#newsNumber > this.#awaitedNumber)) this.#say(true);
    return this.#newsNumber <= this.#coveredNumber ? undefined : this.#coveredUpTo(this.#newsNumber);
  }

  /** Says the facts as they are now, and resolves when the worker has heard them, or is gone. At once if nobody reads at it yet. */
  async told(): Promise<void> {
    if (this.#hasEnded || !this.#isWhole) return;
    this.#say(true);
    await this.#coveredUpTo(this.#saidNumber);
  }

  #coveredUpTo(number: number): Promise<void> {
    return new Promise((resolve) => this.#uncovered.push({ number, resolve }));
  }

  /** Resolves with the next of this kind that the worker says it has done. Rejects when the worker is gone. */
  done<K extends WorkerNotice["kind"]>(kind: K): Promise<Extract<WorkerNotice, { readonly kind: K }>> {
    return new Promise((resolve, reject) => {
      if (this.#hasEnded) reject(this.#gone());
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only what is of this kind resolves it
      else this.#awaited.push({ kind, resolve: resolve as AwaitedReply["resolve"], reject });
    });
  }

  /** Opens the worker's listeners. Rejects with a message for the operator. */
  async listen(shared: SharedPorts): Promise<ListenEndpoints> {
    const listening = this.done("listening");
    const refused = this.done("notListening").then(({ message }) => {
      throw new Error(message);
    });
    this.say(({ orders }) => orders.push({ kind: "listen", shared }));
    return (await Promise.race([listening, refused])).endpoints;
  }

  /** To be called a few times a second: ends a worker that hears nothing any more. */
  look(): void {
    if (this.#unheard.length === 0) this.#heardPatientMs = stallAwareNowMs();
    const maxMs = this.#isWhole ? MAX_SILENT_MS : MAX_SILENT_START_MS;
    const isSilent = stallAwareDueMs() - this.#heardPatientMs > maxMs;
    if (isSilent || this.#unheardBytes > this.#parts.maxUnheardBytes) this.terminate(new Error("it does not hear what it is told"));
  }

  terminate(why?: Error): void {
    this.#error ??= why;
    this.#channel.terminate();
  }

  #say(isAwaited = false): void {
    const { feed, facts } = this.#parts;
    if (this.#hasEnded || (!feed.isWhole && this.#unheardBytes > MAX_WAITING_BYTES)) return;
    this.#saidNumber += 1;
    if (isAwaited) this.#awaitedNumber = this.#saidNumber;
    const said = feed.take(SLICE_COUNT);
    if (said.numbers.length > 0) this.#newsNumber = this.#saidNumber;
    const bytes = said.bytes.length + said.numbers.byteLength;
    this.#unheard.push({ number: this.#saidNumber, bytes });
    this.#unheardBytes += bytes;
    const placed = { number: this.#saidNumber, heard: this.#heardNumber, said, isAwaited, facts: facts() };
    const message: ToWorker = { ...placed, ...this.#waiting };
    this.#waiting = nothing();
    this.#channel.post(message);
    if (!feed.isWhole) this.say();
  }

  /** The node stops: ends the forwarded streams that nothing else ends. */
  drain(error: WaymarkError): void {
    this.#parts.calls.drain(error);
  }

  #hear(said: FromWorker): void {
    // What a process said last may arrive after its end.
    if (this.#hasEnded) return;
    this.#heardNumber = said.number;
    this.connectionCount = said.connectionCount;
    this.#cover(said.heard);
    const { calls, feed, onHeard } = this.#parts;
    if (said.calls !== undefined) calls.hear(said.calls);
    for (const done of said.done) {
      this.#isWhole ||= done.kind === "whole";
      const over = this.#awaited.filter(({ kind }) => kind === done.kind);
      this.#awaited = this.#awaited.filter(({ kind }) => kind !== done.kind);
      for (const { resolve } of over) resolve(done);
    }
    onHeard(said);
    // It may have waited with the rest of the copy.
    if (!feed.isWhole) this.say();
  }

  #cover(number: number): void {
    if (number <= this.#coveredNumber) return;
    this.#coveredNumber = number;
    this.#heardPatientMs = stallAwareNowMs();
    const count = this.#unheard.findIndex((message) => message.number > number);
    for (const { bytes } of this.#unheard.splice(0, count < 0 ? this.#unheard.length : count)) this.#unheardBytes -= bytes;
    for (const { resolve } of this.#uncovered.filter((each) => each.number <= number)) resolve();
    this.#uncovered = this.#uncovered.filter((each) => each.number > number);
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.connectionCount = 0;
    const { feed, calls, onEnd } = this.#parts;
    feed.close();
    calls.close();
    for (const { resolve } of this.#uncovered.splice(0)) resolve();
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
