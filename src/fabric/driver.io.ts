/** Runs a fabric machine: time and sockets come in as inputs, its orders go out to the transport and to the node. */
import type { Time } from "../lib/machine.ts";
import { TokenBuckets } from "../lib/token-bucket.ts";
import type { CallId, FabricEvent, FabricInput, FabricMachine, FabricOutput, LinkId } from "./io-types.ts";
import type { CallFailure } from "./transport/call-pool.io.ts";
import type { FabricTls } from "./transport/peer-identity.io.ts";
import type { TrafficRow } from "./transport/traffic.ts";
import { type FabricTransport, openFabricTransport, type TransportEvents, type TransportOptions } from "./transport/transport.io.ts";
import type { CallRequest, CallResponse, LinkFrame, PeerIdentity } from "./wire/messages.ts";

/** What the machine orders that is not the sockets' affair. */
export type NodeOutput = Exclude<FabricOutput, { readonly kind: "call" | "answer" | "open" | "send" | "close" }>;

export interface DriverOptions {
  readonly transport: TransportOptions;
  readonly onOutput: (output: NodeOutput) => void;
}

/** Lateness of the event loop is looked at this often. */
const LAG_SAMPLE_MS = 250;
/** Later than that by so much, it stood still. */
const MIN_LAG_MS = 50;
/** Strangers turned away are told of so often in `REFUSAL_WINDOW_MS`; the rest are counted. */
const MAX_REFUSALS = 10;
const REFUSAL_WINDOW_MS = 60_000;
/** That an address does not answer is told at most so often. */
const UNANSWERED_WINDOW_MS = 600_000;

function now(): Time {
  return { monoMs: performance.now(), wallMs: Date.now() };
}

/** Binds and starts the machine. Rejects with a message for people when the listener cannot be had. */
export async function startFabricDriver(machine: FabricMachine, options: DriverOptions): Promise<FabricDriver> {
  const driver = new FabricDriver(machine, options);
  await driver.open();
  return driver;
}

export class FabricDriver {
  readonly #machine: FabricMachine;
  readonly #options: DriverOptions;
  readonly #inputs: FabricInput[] = [];
  /** Orders in their order, from `handle` and `pull` alike. */
  readonly #outputs: FabricOutput[] = [];
  readonly #links = new Set<LinkId>();
  #transport: FabricTransport | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerMonoMs = Number.POSITIVE_INFINITY;
  #lagTimer: NodeJS.Timeout | undefined;
  #lookedMonoMs = performance.now();
  #isBegun = false;
  #isRunning = false;
  #isChangeDue = false;
  #isStopped = false;
  #refusalWindowMonoMs = 0;
  #refusalCount = 0;
  #refusedCount = 0;
  #onLinkGone: (() => void) | undefined;
  readonly #unansweredTold = new TokenBuckets({ limit: 1, windowMs: UNANSWERED_WINDOW_MS, maxKeys: 256 });

  constructor(machine: FabricMachine, options: DriverOptions) {
    this.#machine = machine;
    this.#options = options;
  }

  /** `beforeBegin` runs once the listener is bound; until it has ended, the machine says nothing, and what others say waits. */
  async open(beforeBegin?: () => Promise<void>): Promise<void> {
    this.#transport = await openFabricTransport(this.#options.transport, this.#events());
    await beforeBegin?.();
    this.#isBegun = true;
    this.#sampleLag();
    this.input({ kind: "tick" });
  }

  /** As bound, `host:port`. */
  get address(): string {
    return this.#transport?.address ?? "";
  }

  get port(): number {
    return this.#transport?.port ?? 0;
  }

  /** Strangers turned away before the machine heard of them. */
  get refusedCount(): number {
    return this.#refusedCount;
  }

  /** Frames and calls with their bytes, by direction and kind. */
  stats(): readonly TrafficRow[] {
    return this.#transport?.traffic.rows() ?? [];
  }

  /** What the transport has open. */
  counts(): ReturnType<FabricTransport["counts"]> | undefined {
    return this.#transport?.counts();
  }

  /** Connections from now on use these certificates. Throws when they do not fit, and keeps the old ones. */
  setTls(tls: FabricTls): void {
    this.#transport?.setTls(tls);
  }

  /** Calls from now on show this token. Throws when it can be none, and keeps the old one. */
  setClusterToken(token: string): void {
    this.#transport?.setClusterToken(token);
  }

  /** Tells the machine at once when the process stood still: for who decides something before the machine hears of anything. */
  look(): void {
    this.#look();
    if (this.#inputs.length > 0) this.#run();
  }

  /** Tells the machine something. From within `onOutput` it is told after the orders before it are carried out. */
  input(input: FabricInput): void {
    if (this.#isStopped) return;
    // Whatever runs first after a standstill: before it judges anybody the machine knows that nobody could be heard.
    if (this.#isBegun) this.#look();
    this.#inputs.push(input);
    this.#run();
  }

  /** The replica has news; many in one turn of the event loop are told once. */
  changed(): void {
    if (this.#isChangeDue || this.#isStopped) return;
    this.#isChangeDue = true;
    setImmediate(() => {
      this.#isChangeDue = false;
      this.input({ kind: "changed" });
    });
  }

  /** Says goodbye to everybody, then cuts what is left after `deadlineMs`. Idempotent. */
  async stop(reason: "leave" | "restart", deadlineMs: number): Promise<void> {
    if (this.#isStopped) return;
    const end = performance.now() + deadlineMs;
    const withinMs = deadlineMs / 2;
    this.input({ kind: "stop", reason, withinMs });
    await this.#allLinksGone(withinMs);
    this.#isStopped = true;
    clearTimeout(this.#timer);
    clearInterval(this.#lagTimer);
    await this.#transport?.stop(Math.max(0, end - performance.now()));
  }

  #allLinksGone(deadlineMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, deadlineMs);
      this.#onLinkGone = () => {
        if (this.#links.size > 0) return;
        clearTimeout(timer);
        resolve();
      };
      this.#onLinkGone();
    });
  }

  #events(): TransportEvents {
    return {
      asked: (call: CallId, request: CallRequest, identity: PeerIdentity) => this.input({ kind: "asked", call, request, identity }),
      isStranger: (identity: PeerIdentity) => this.#machine.calls.isStranger(identity),
      answered: (call: CallId, response: CallResponse | undefined, refusal?: string) =>
        this.input({ kind: "answered", call, response, ...(refusal !== undefined && { refusal }) }),
      opened: (link: LinkId, isIncoming: boolean, identity: PeerIdentity) => {
        this.#links.add(link);
        this.input({ kind: "opened", link, isIncoming, identity });
      },
      received: (link: LinkId, frame: LinkFrame) => this.input({ kind: "received", link, frame }),
      pull: (link: LinkId) => this.#pull(link),
      closed: (link: LinkId, detail: string) => {
        this.#links.delete(link);
        this.input({ kind: "closed", link, detail });
        this.#onLinkGone?.();
      },
      refused: (why: string, address: string) => this.#refused(why, address),
      unanswered: (address: string, failure: CallFailure) => this.#unanswered(address, failure),
    };
  }

  // HOT: once a frame sent.
  #pull(link: LinkId): LinkFrame | undefined {
    if (this.#isStopped) return undefined;
    const frame = this.#machine.pull(link, now(), this.#outputs);
    if (this.#outputs.length > 0) this.#run();
    else if (!this.#isRunning) this.#arm();
    return frame;
  }

  /** One input after the other, each with its orders carried out before the next. */
  #run(): void {
    if (this.#isRunning || !this.#isBegun) return;
    this.#isRunning = true;
    try {
      this.#carryOut();
      for (let input = this.#inputs.shift(); input !== undefined; input = this.#inputs.shift()) {
        this.#machine.handle(input, now(), this.#outputs);
        this.#carryOut();
      }
    } finally {
      this.#isRunning = false;
    }
    this.#arm();
  }

  #carryOut(): void {
    // Carrying out may add to the end: a pull has orders too.
    for (let i = 0; i < this.#outputs.length; i++) {
      const output = this.#outputs[i];
      if (output !== undefined) this.#order(output);
    }
    this.#outputs.length = 0;
  }

  #order(output: FabricOutput): void {
    const transport = this.#transport;
    switch (output.kind) {
      case "call":
        return transport?.call(output.call, output.to, output.request, output.timeoutMs);
      case "answer":
        return transport?.answer(output.call, output.response, output.why);
      case "open":
        return transport?.openLink(output.link, output.to);
      case "send":
        return transport?.wake(output.link);
      case "close":
        return transport?.closeLink(output.link);
      case "changed":
      case "superseded":
      case "generationLost":
      case "offered":
      case "readPolicy":
      case "adoptPolicy":
      case "memberChanged":
      case "memberForgotten":
      case "event":
        this.#options.onOutput(output);
    }
  }

  /** One timer; a later deadline leaves it as it is, for a tick too early changes nothing. */
  #arm(): void {
    const deadlineMonoMs = this.#isStopped ? undefined : this.#machine.nextDeadlineMs();
    if (deadlineMonoMs === undefined || deadlineMonoMs >= this.#timerMonoMs) return;
    clearTimeout(this.#timer);
    this.#timerMonoMs = deadlineMonoMs;
    this.#timer = setTimeout(
      () => {
        this.#timerMonoMs = Number.POSITIVE_INFINITY;
        this.input({ kind: "tick" });
      },
      Math.max(0, Math.ceil(deadlineMonoMs - performance.now())),
    );
  }

  #sampleLag(): void {
    this.#lookedMonoMs = performance.now();
    this.#lagTimer = setInterval(() => {
      this.#look();
      this.#run();
    }, LAG_SAMPLE_MS / 2).unref();
  }

  /** The loop is looked at twice in `LAG_SAMPLE_MS`, so a longer time without a look was a standstill. */
  #look(): void {
    const monoMs = performance.now();
    const lagMs = monoMs - this.#lookedMonoMs - LAG_SAMPLE_MS;
    this.#lookedMonoMs = monoMs;
    if (lagMs >= MIN_LAG_MS) this.#inputs.push({ kind: "lagged", lagMs });
  }

  /** Whoever cannot join is to know why; the dead are asked again and again, and that is no news. */
  #unanswered(address: string, { why, isRefused }: CallFailure): void {
    if (this.#unansweredTold.take(`${isRefused} ${address}`, performance.now()) !== 0) return;
    const event: FabricEvent = {
      name: isRefused ? "refused_by_peer" : "peer_not_reached",
      severity: isRefused ? "warn" : "info",
      isAudited: false,
      detail: { address, why },
    };
    this.#options.onOutput({ kind: "event", event });
  }

  #refused(why: string, address: string): void {
    this.#refusedCount += 1;
    const monoMs = performance.now();
    if (monoMs - this.#refusalWindowMonoMs > REFUSAL_WINDOW_MS) {
      this.#refusalWindowMonoMs = monoMs;
      this.#refusalCount = 0;
    }
    this.#refusalCount += 1;
    if (this.#refusalCount > MAX_REFUSALS) return;
    const event: FabricEvent = {
      name: "stranger_refused",
      severity: "warn",
      isAudited: true,
      detail: { why, address, count: this.#refusedCount },
    };
    this.#options.onOutput({ kind: "event", event });
  }
}
