/**
 * Implements `lead`: campaigns for a scope on one server at a time, and runs the program's work while it leads the scope. The design is client-go's
 * `leaderelection.LeaderElector`. The validity of a term is the only connection between the work and the streams, so a term survives a broken stream.
 */
import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Fence } from "../../gen/waymark/control/v1/fence_pb.js";
import {
  CampaignState,
  LeadershipService,
  type LeadershipServiceCampaignRequest,
  LeadershipServiceCampaignRequestSchema,
  type LeadershipServiceCampaignResponse,
} from "../../gen/waymark/control/v1/leadership_pb.js";
import { type FenceToken, fenceText } from "../lib/fence.ts";
import { later } from "../lib/stall-aware-time.io.ts";
import type { ClientCalls } from "./calls.ts";
import { type HeartbeatStream, heartbeats } from "./heartbeats.io.ts";
import { checkOptions, FUNCTION, type OptionRules, SIGNAL, TEXT } from "./option-rules.ts";

/** Options of `lead`. */
export interface LeadOptions {
  /** Name of this program in lists, logs and audit records: at most 256 characters of `[A-Za-z0-9._:/@+-]`. By default, the server chooses it. */
  readonly holderId?: string;
  /** Ends the campaign. `work` is then given the time to end, because it gets the same reason from `term.signal`. */
  readonly signal?: AbortSignal;
}

/** A time in which this program leads a scope. */
export interface LeaderTerm {
  readonly scope: string;
  /** Number of the holder of the scope: 1, 2, 3, and so on. It begins at 1 again after a program has given up the scope. */
  readonly number: number;
  /** The fence of this term, which is greater than the fences of all earlier terms of the scope. */
  readonly fence: FenceToken;
  /** The value of the metadata `waymark-fence`, which a leader sends with its writes. `parseFence` reads it. */
  readonly fenceText: string;
  /** Aborted when the term ends. `work` must then stop. */
  readonly signal: AbortSignal;
  /** Whether the program still leads the scope. Unlike `signal`, it is exact even immediately after the process was paused. */
  isValid(): boolean;
}

const RULES: OptionRules<LeadOptions> = { holderId: TEXT, signal: SIGNAL };

/** Leads a scope. `Client.lead` describes it. */
export async function lead<T>(
  client: ClientCalls,
  scope: string,
  work: (term: LeaderTerm) => T | Promise<T>,
  options: LeadOptions = {},
): Promise<T> {
  checkOptions("lead", { scope, work }, { scope: TEXT, work: FUNCTION });
  checkOptions("lead", options, RULES);
  options.signal?.throwIfAborted();
  return new LeaderCampaign(client, scope, work, options).run();
}

class LeaderCampaign<T> {
  readonly #client: ClientCalls;
  readonly #scope: string;
  readonly #work: (term: LeaderTerm) => T | Promise<T>;
  readonly #options: LeadOptions;
  readonly #result = Promise.withResolvers<T>();
  /** Aborted when the result is known, which also ends the term. */
  readonly #finished = new AbortController();
  /** The current stream. Leaving it frees the scope immediately. */
  #stream: HeartbeatStream | undefined;
  /** The term whose work is running, and the stream that granted it. */
  #led: { readonly term: RunningTerm; readonly stream: HeartbeatStream } | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(client: ClientCalls, scope: string, work: (term: LeaderTerm) => T | Promise<T>, options: LeadOptions) {
    this.#client = client;
    this.#scope = scope;
    this.#work = work;
    this.#options = options;
  }

  async run(): Promise<T> {
    const { signal } = this.#options;
    signal?.addEventListener("abort", () => this.#fail(signal.reason), { signal: this.#finished.signal });
    // The result can be an error before it is awaited.
    this.#result.promise.catch(() => {});
    const open = (server: string, abort: AbortSignal) =>
      this.#client.duplexAt(server, LeadershipService.method.campaign, { signal: abort });
    try {
      for await (const { stream, answer } of heartbeats(this.#client, open, (isLast) => this.#message(isLast), this.#finished.signal)) {
        this.#stream = stream;
        if (answer !== undefined) this.#answered(answer, stream);
      }
    } catch (error) {
      this.#fail(error);
    }
    await this.#running;
    return this.#result.promise;
  }

  #message(resign: boolean): LeadershipServiceCampaignRequest {
    const { holderId = "" } = this.#options;
    const sentMs = BigInt(Math.floor(performance.now()));
    return create(LeadershipServiceCampaignRequestSchema, { scope: this.#scope, holderId, resign, sentMs });
  }

  #answered({ state, fence, term: number, sentMs, validFor }: LeadershipServiceCampaignResponse, stream: HeartbeatStream): void {
    const led = this.#led;
    if (state !== CampaignState.LEADER || fence === undefined || validFor === undefined) {
      if (led?.stream === stream) led.term.end(new Error(`the program no longer leads ${this.#scope}`));
      return;
    }
    const untilMs = Number(sentMs) + durationMs(validFor);
    if (led?.stream === stream && led.term.fence.number === Number(fence.number)) led.term.extend(untilMs);
    // The work of an earlier term may still be running.
    else if (led === undefined && !this.#isFinished && performance.now() < untilMs) {
      const term = new RunningTerm(this.#scope, Number(number), fence, this.#finished.signal);
      term.extend(untilMs);
      this.#running = this.#lead(term, stream);
    }
  }

  /** Runs the work for one term. */
  async #lead(term: RunningTerm, stream: HeartbeatStream): Promise<void> {
    this.#led = { term, stream };
    const result = (async () => this.#work(term))();
    await Promise.allSettled([result]);
    this.#led = undefined;
    const reason = new Error(`the work for ${this.#scope} has ended`);
    if (term.isValid()) {
      this.#result.resolve(result);
      this.#finished.abort(reason);
    }
    term.end(reason);
    if (this.#stream === stream || this.#isFinished) this.#stream?.leave();
  }

  #fail(error: unknown): void {
    this.#result.reject(error);
    this.#finished.abort(error);
    if (this.#led === undefined) this.#stream?.leave();
  }

  get #isFinished(): boolean {
    return this.#finished.signal.aborted;
  }
}

class RunningTerm implements LeaderTerm {
  readonly scope: string;
  readonly number: number;
  readonly fence: FenceToken;
  readonly fenceText: string;
  readonly signal: AbortSignal;
  readonly #abort = new AbortController();
  #untilMs = 0;
  #cancelTimer = () => {};

  constructor(scope: string, number: number, { failoverVersion, storeEpoch, number: within }: Fence, finished: AbortSignal) {
    this.scope = scope;
    this.number = number;
    this.fence = { failoverVersion: Number(failoverVersion), storeEpoch: Number(storeEpoch), number: Number(within) };
    this.fenceText = fenceText(scope, this.fence);
    this.signal = AbortSignal.any([finished, this.#abort.signal]);
  }

  isValid(): boolean {
    return !this.signal.aborted && performance.now() < this.#untilMs;
  }

  extend(untilMs: number): void {
    this.#untilMs = untilMs;
    this.#cancelTimer();
    // Node.js counts a delay from the start of the turn of the event loop, so the timer can be early.
    const expire = () =>
      this.isValid() ? this.extend(untilMs) : this.end(new Error(`the term for ${this.scope} was not extended in time`));
    this.#cancelTimer = later(expire, untilMs - performance.now());
  }

  end(reason: unknown): void {
    this.#cancelTimer();
    this.#abort.abort(reason);
  }
}
