/**
 * Runs the state machine of a resolver with the clock and sockets: it passes inputs to the machine and carries out its orders. The driver does not
 * make any decisions.
 */
import type { DescMethod } from "@bufbuild/protobuf";
import type { QueriedName } from "../../catalog/query/instances.ts";
import { rethrowInvariant, WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import { isJustResumed } from "../../lib/stall-aware-time.io.ts";
import type { AnswerQuality, LookupOptions, ResolverInput, ResolverOrder } from "../../resolver/io-types.ts";
import type { ResolverMachine } from "../../resolver/machine.ts";
import type { ResyncOrder } from "../../resolver/maintenance/resync-notes.ts";
import type { UpstreamAnswer } from "../../services/resolving/ports.ts";
import type { ResolverRooms } from "./resolver-rooms.ts";
import { SparseLog } from "./sparse-log.ts";
import type { UpstreamCalls } from "./upstream-calls.io.ts";
import { CredentialRefusal } from "./upstream-codec.ts";
import type { StreamEvents, UpstreamStreamHandle } from "./upstream-streams.io.ts";

export interface ResolverDriverParts {
  readonly rooms: Pick<ResolverRooms, "inputs" | "machine">;
  readonly calls: UpstreamCalls;
  readonly log: Pick<Log, "warn">;
  now(): Time;
  /** Called after each input of the machine, so that readers can be woken. */
  onChange(): void;
  /** Called when another policy comes into force, so that the policy switch can run. */
  onPolicyChanged(): void;
  /** Called when namespaces are fetched again although no operator requested it. */
  onResynced(resynced: ResyncOrder): void;
}

/** After a pause of this process, timers wait this long, so that messages that arrived during the pause are read before a server is considered silent. */
const AWAKE_MS = 50;

type OpeningKind = "open" | "open policy" | "open summaries";
/** The content that a stream carries. */
type StreamContent = "policy" | "summaries" | "watch";
type OrderOf<Kind extends ResolverOrder["kind"]> = Extract<ResolverOrder, { readonly kind: Kind }>;

export class ResolverDriver {
  readonly #parts: ResolverDriverParts;
  readonly #machine: ResolverMachine;
  readonly #calls: UpstreamCalls;
  readonly #warnings: SparseLog;
  /** Inputs that arrived while another input was being handled. Inputs from sockets never arrive at such a time. */
  readonly #inputs: ResolverInput[] = [];
  /** Orders that have not been carried out yet, oldest first. */
  readonly #orders: ResolverOrder[] = [];
  /** Open streams, by content and number. */
  readonly #streams = new Map<string, UpstreamStreamHandle>();
  /**
   * The last refusal or failure from each upstream. Cleared when a stream receives a message, because the resolver can then read from an upstream.
   */
  readonly #faults = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;
  #timerMonoMs = NEVER;
  #isRunning = false;
  #isClosed = false;

  constructor(parts: ResolverDriverParts) {
    const { rooms, calls, log } = parts;
    this.#parts = parts;
    this.#machine = rooms.machine;
    this.#calls = calls;
    this.#warnings = new SparseLog((fields, message) => log.warn({ ...fields }, message));
  }

  /** Failures of the upstream servers since a message was last received, for operators. Empty if there are none. */
  get fault(): string {
    return [...new Set(this.#faults.values())].join("; ");
  }

  /** Starts probing the upstream servers. */
  begin(): void {
    this.input({ kind: "tick" });
  }

  /** Passes an input to the machine. An input that arrives from `onChange` waits until the earlier orders have been carried out. */
  input(input: ResolverInput): void {
    if (this.#isClosed) return;
    this.#inputs.push(input);
    this.#run();
  }

  /**
   * Looks up a name for a caller that may see the namespace. Returns undefined if the caller must wait. `onAnswer` is then called once when the
   * lookup ends: with an error, or without one if the machine's `lookupsOf` finds the entries. The entries are guaranteed to exist only during the
   * call to `onAnswer`. Throws a WaymarkError.
   */
  ask(name: QueriedName, asked: LookupOptions, onAnswer: (error: WaymarkError | undefined) => void): AnswerQuality | undefined {
    if (this.#isClosed) throw new WaymarkError("draining", "this resolver is stopping");
    const answer = this.#machine.ask(
      name,
      (outcome) => onAnswer("error" in outcome ? outcome.error : undefined),
      this.#parts.now(),
      this.#orders,
      asked,
    );
    if (this.#orders.length > 0) this.#run();
    return answer;
  }

  /** Forwards a call to the upstream, and then to one other upstream if the first cannot be reached. Rejects with a WaymarkError. */
  async unary(method: DescMethod, request: Uint8Array, timeoutMs: number): Promise<UpstreamAnswer> {
    const untilMonoMs = performance.now() + timeoutMs;
    let error = new WaymarkError("not_ready", "this resolver cannot reach any upstream; retry");
    const upstreams = this.#machine.upstreams.usable.slice(0, 2);
    for (const [i, upstream] of upstreams.entries()) {
      const leftMs = untilMonoMs - performance.now();
      if (leftMs < 1) break;
      // The time is divided, so that an upstream that hangs leaves enough time for the other one.
      const outcome = await this.#calls.unary(upstream, method, request, leftMs / (upstreams.length - i));
      if (outcome.bytes !== undefined) return { bytes: outcome.bytes, upstream };
      error = outcome.error;
      if (!outcome.isUnreached) break;
    }
    throw error;
  }

  /**
   * Reads the certificates and the token again. If they changed, reopens all streams. If a file is unusable, throws and keeps the previous credentials.
   */
  reload(): void {
    if (this.#calls.reload()) this.input({ kind: "credentials changed" });
  }

  /** Ends all streams and calls. No callbacks follow. Idempotent. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#calls.close();
  }

  /** Handles the inputs in order. The orders that result from one input are carried out before the next input is handled. */
  #run(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      this.#carryOut();
      for (let input = this.#inputs.shift(); input !== undefined; input = this.#inputs.shift()) {
        const isPolicyChanged = this.#parts.rooms.inputs.handle(input, this.#parts.now(), this.#orders);
        this.#carryOut();
        if (isPolicyChanged) this.#parts.onPolicyChanged();
        this.#parts.onChange();
        this.#carryOut();
      }
    } finally {
      this.#isRunning = false;
    }
    this.#arm();
  }

  #carryOut(): void {
    for (let i = 0; i < this.#orders.length; i++) {
      const order = this.#orders[i];
      if (order !== undefined) this.#order(order);
    }
    this.#orders.length = 0;
  }

  #order(order: ResolverOrder): void {
    switch (order.kind) {
      case "probe":
        return void this.#probe(order);
      case "open":
        return this.#open("watch", order, (events) => this.#calls.openWatch(order.upstream, order, events));
      case "close":
        return this.#close("watch", order.stream);
      case "open policy":
        return this.#open("policy", order, (events) => this.#calls.openPolicy(order.upstream, order.known, events));
      case "close policy":
        return this.#close("policy", order.stream);
      case "open summaries":
        return this.#open("summaries", order, (events) =>
          this.#calls.openSummaries(order.upstream, { ...order, withDigest: true }, events),
        );
      case "close summaries":
        return this.#close("summaries", order.stream);
      case "fetch":
        return void this.#fetch(order);
      case "garbled":
        return this.#warn(order.upstream, order.fault, "an upstream sent invalid data; it will not be used for a while");
      case "resynced":
        return this.#parts.onResynced(order);
      case "refused":
        return this.#warn(order.upstream, order.fault, `upstream refused (${order.refusal})`);
    }
  }

  async #probe({ upstream }: OrderOf<"probe">): Promise<void> {
    let input: ResolverInput;
    try {
      input = { kind: "probed", upstream, ...(await this.#calls.probe(upstream)) };
    } catch (thrown) {
      const error = refusalIn(thrown);
      this.#fail(upstream, error, "an upstream does not answer");
      input = { kind: "probe failed", upstream, ...retryIn(error.details) };
    }
    this.input(input);
  }

  async #fetch({ call, upstream, name, pageToken }: OrderOf<"fetch">): Promise<void> {
    let input: ResolverInput;
    try {
      input = { kind: "fetched", call, bytes: await this.#calls.fetch(upstream, name, pageToken) };
    } catch (thrown) {
      input = { kind: "fetch failed", call, error: refusalIn(thrown) };
    }
    this.input(input);
  }

  #open(content: StreamContent, { stream, upstream }: OrderOf<OpeningKind>, open: (events: StreamEvents) => UpstreamStreamHandle): void {
    const events: StreamEvents = {
      received: (bytes, delayMs) => {
        // HOT: runs per message. Faults are rare.
        if (this.#faults.size > 0) this.#faults.clear();
        this.input({ kind: `${content} said`, stream, bytes, delayMs });
      },
      ended: (error, refusal) => {
        this.#streams.delete(`${content} ${stream}`);
        this.#fail(upstream, error, "a stream from an upstream ended");
        this.input({ kind: `${content} ended`, stream, ...retryIn(error.details), ...(refusal !== undefined && { refusal }) });
      },
    };
    this.#streams.set(`${content} ${stream}`, open(events));
  }

  #close(content: StreamContent, stream: number): void {
    this.#streams.get(`${content} ${stream}`)?.close();
    this.#streams.delete(`${content} ${stream}`);
  }

  #fail(upstream: string, error: WaymarkError, message: string): void {
    const isRefused = error instanceof CredentialRefusal;
    const detail = isRefused ? error.text : error.message;
    this.#faults.set(upstream, detail);
    this.#warn(upstream, detail, isRefused ? "an upstream refuses this resolver" : message);
  }

  #warn(upstream: string, detail: string, message: string): void {
    if (!this.#isClosed) this.#warnings.warn({ upstream, detail }, message, this.#parts.now().monoMs);
  }

  /** Sets the timer. A timer with an earlier deadline is left unchanged, because an early tick does no harm. */
  #arm(): void {
    const deadlineMonoMs = this.#isClosed ? NEVER : this.#parts.rooms.inputs.nextDeadlineMs();
    if (deadlineMonoMs >= this.#timerMonoMs) return;
    clearTimeout(this.#timer);
    this.#timerMonoMs = deadlineMonoMs;
    this.#timer = setTimeout(() => this.#tick(), Math.max(1, Math.ceil(deadlineMonoMs - this.#parts.now().monoMs)));
  }

  #tick(): void {
    if (isJustResumed()) {
      this.#timer = setTimeout(() => this.#tick(), AWAKE_MS);
      return;
    }
    this.#timerMonoMs = NEVER;
    this.input({ kind: "tick" });
  }
}

/** Returns the WaymarkError of a failed call. Other errors are bugs and are rethrown. */
function refusalIn(thrown: unknown): WaymarkError {
  rethrowInvariant(thrown);
  if (thrown instanceof WaymarkError) return thrown;
  throw thrown;
}

function retryIn({ retryMs }: WaymarkError["details"]): { readonly retryMs?: number } {
  return retryMs === undefined ? {} : { retryMs };
}
