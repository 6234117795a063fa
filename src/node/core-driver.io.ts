/** Runs the machine of a node on journal, clock and sockets: it gives the machine its inputs and carries out its orders. It decides nothing. */
import type { WriteBatch } from "../catalog/batch.ts";
import { type BatchNumber, NOTHING_TO_WAIT_FOR } from "../discovery/registrar/commit-cycle.ts";
import type { LinkId } from "../fabric/io-types.ts";
import type { TrafficRow } from "../fabric/transport/link-stream.ts";
import type { FabricTls } from "../fabric/transport/peer-identity.io.ts";
import {
  type FabricTransport,
  openFabricTransport,
  type TransportEvents,
  type TransportOptions,
} from "../fabric/transport/transport.io.ts";
import type { LinkFrame, MaintenanceCall, MaintenanceResult } from "../fabric/wire/messages.ts";
import { rethrowBroken } from "../lib/errors.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import type { Standing } from "./core/standing.ts";
import { LOOK_MS } from "./core/standing.ts";
import type { NodeMachine } from "./core.ts";
import type { NodeInput, NodeOutput, Told } from "./core-io.ts";

/** The parts of the machine that the driver uses. */
export type DrivenMachine = Pick<
  NodeMachine,
  "handle" | "nextDeadlineMs" | "look" | "pull" | "durable" | "show" | "mustConfirm" | "calls"
> & { readonly standing: Pick<Standing, "refusal"> };

export interface DriverPorts {
  now(): Time;
  write(batch: WriteBatch): Promise<void>;
  renewGeneration(generation: number): Promise<void>;
  /** Records became visible, `commitMs` after they were handed to the journal. */
  onCommitted(recordCount: number, commitMs: number): void;
  /** Readers may be woken. */
  wake(): void;
  /** The journal did not take a new generation. It is tried again. */
  readonly onRefused: (error: unknown) => void;
}

type Waiting = PromiseWithResolvers<void>;

/** What the callers of one batch wait for. */
interface Settlement extends Waiting {
  readonly batch: BatchNumber;
}

export class CoreDriver {
  readonly #machine: DrivenMachine;
  readonly #ports: DriverPorts;
  readonly #inputs: NodeInput[] = [];
  /** Orders that are still to be carried out, in their order. */
  readonly #outputs: NodeOutput[] = [];
  /** What callers wait for: the batch on its way, and the one that gathers. */
  #waiting: Settlement[] = [];
  /** What writes wait for until other nodes have confirmed this start. */
  #confirming: Waiting | undefined;
  /** Orders that other nodes have not answered, by number. */
  readonly #ordered = new Map<number, (maintained: MaintenanceResult) => void>();
  #orderCount = 0;
  readonly #followers = new Set<(told: Told) => void>();
  #transport: FabricTransport | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerMonoMs = NEVER;
  #lookTimer: NodeJS.Timeout | undefined;
  #isRunning = false;
  #isNetworkClosed = false;
  #isStopped = false;
  readonly #gone = Promise.withResolvers<void>();

  constructor(machine: DrivenMachine, ports: DriverPorts) {
    this.#machine = machine;
    this.#ports = ports;
    this.#arm();
  }

  /** Opens the listener for other nodes. The machine keeps what they say until `begin`. Rejects with a message for people when the listener cannot be opened. */
  async open(transport: TransportOptions): Promise<void> {
    this.#transport = await openFabricTransport(transport, this.#events());
  }

  /** Lets the machine speak to other nodes, hear them, and run checks. */
  begin(): void {
    this.#lookTimer = setInterval(() => this.#look(), LOOK_MS).unref();
    this.input({ kind: "begin" });
  }

  /**
   * Resolves when everything staged so far is on disk and visible; rejects when it was refused and undone. Undefined when
   * there is nothing to wait for, so that an unchanged renewal costs no promise.
   */
  durable(): Promise<void> | undefined {
    const batch = this.#machine.durable(this.#outputs);
    if (this.#outputs.length > 0) this.#run();
    if (batch === NOTHING_TO_WAIT_FOR) return undefined;
    const known = this.#waiting.find((each) => each.batch === batch);
    if (known !== undefined) return known.promise;
    const settlement = { batch, ...Promise.withResolvers<void>() };
    this.#waiting.push(settlement);
    return settlement.promise;
  }

  /**
   * To be called for each write. Usually returns undefined. After a standstill of this process, in which other nodes may have accepted another start,
   * it returns a promise. That resolves when others have answered, and rejects with `not_ready` when another start goes under this id.
   */
  confirmed(): Promise<void> | undefined {
    this.#look();
    if (this.#machine.mustConfirm(this.#ports.now())) {
      this.#confirming ??= Promise.withResolvers();
      return this.#confirming.promise;
    }
    const { refusal } = this.#machine.standing;
    return refusal === undefined ? undefined : Promise.reject(refusal);
  }

  /** Gives another node an order about the maintenance of entries that are registered with it. Resolves with what came of it. */
  maintain(nodeId: string, maintain: MaintenanceCall): Promise<MaintenanceResult> {
    if (this.#isNetworkClosed || this.#isStopped || this.#transport === undefined) return Promise.resolve({ response: undefined });
    const { promise, resolve } = Promise.withResolvers<MaintenanceResult>();
    this.#orderCount += 1;
    this.#ordered.set(this.#orderCount, resolve);
    this.input({ kind: "maintain", order: this.#orderCount, nodeId, maintain });
    return promise;
  }

  /** Calls the follower with what the machine tells, from now on. Returns a function that ends this. */
  follow(follower: (told: Told) => void): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }

  /** Tells the machine that the replica changed, so that it updates names and wakes readers. */
  show(): void {
    this.#machine.show(this.#outputs);
    this.#run();
  }

  /** The bound address, `host:port`. */
  get address(): string {
    return this.#transport?.address ?? "";
  }

  get port(): number {
    return this.#transport?.port ?? 0;
  }

  /** Frames and calls with their bytes, by direction and kind. */
  stats(): readonly TrafficRow[] {
    return this.#transport?.traffic.rows() ?? [];
  }

  /** What the transport has open. */
  counts(): ReturnType<FabricTransport["counts"]> | undefined {
    return this.#transport?.counts();
  }

  /** New connections use these certificates. Throws when they do not fit, and keeps the old ones. */
  setTls(tls: FabricTls): void {
    this.#transport?.setTls(tls);
  }

  /** New calls show this token. Throws when it is no valid token, and keeps the old one. */
  setClusterToken(token: string): void {
    this.#transport?.setClusterToken(token);
  }

  /** Gives the machine an input. An input from within a follower waits until the orders before it are carried out. */
  input(input: NodeInput): void {
    if (this.#isStopped) return;
    // This may be the first thing to run after a standstill. Before it judges anybody, the machine must know that it could hear nobody.
    this.#look();
    this.#inputs.push(input);
    this.#run();
  }

  /** Leaves others or only says goodbye to them. Resolves when nothing more is said, after about `withinMs` at the latest. */
  async depart(how: "leave" | "keep", withinMs: number): Promise<void> {
    this.input({ kind: "depart", how, withinMs });
    await this.#gone.promise;
  }

  /** Takes and sends nothing any more. Sockets that are open after `deadlineMs` are cut. */
  async closeNetwork(deadlineMs: number): Promise<void> {
    this.#isNetworkClosed = true;
    for (const resolve of this.#ordered.values()) resolve({ response: undefined });
    this.#ordered.clear();
    this.#stopLooking();
    await this.#transport?.stop(deadlineMs);
  }

  /** Waits for what is staged, then does nothing any more. Idempotent. */
  async close(): Promise<void> {
    // What cannot be written is undone, and its callers are told. A stop goes on.
    await this.durable()?.catch(() => undefined);
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.#stopLooking();
  }

  #arrived(input: NodeInput): void {
    if (!this.#isNetworkClosed) this.input(input);
  }

  #events(): TransportEvents {
    return {
      requested: (call, request, identity) => this.#arrived({ kind: "asked", call, request, identity }),
      isStranger: (identity) => this.#machine.calls.isStranger(identity),
      answered: (call, response, refusal) => this.#arrived({ kind: "answered", call, response, ...(refusal !== undefined && { refusal }) }),
      opened: (link, isIncoming, identity) => this.#arrived({ kind: "opened", link, isIncoming, identity }),
      received: (link, frame) => this.#arrived({ kind: "received", link, frame }),
      pull: (link) => this.#pull(link),
      closed: (link, detail) => this.#arrived({ kind: "closed", link, detail }),
      refused: (why, address) => this.input({ kind: "strangerRefused", why, address }),
      unanswered: (address, { why, isRefused }) => this.input({ kind: "unanswered", address, why, isRefused }),
    };
  }

  // HOT: once a frame sent.
  #pull(link: LinkId): LinkFrame | undefined {
    if (this.#isNetworkClosed) return undefined;
    const frame = this.#machine.pull(link, this.#ports.now(), this.#outputs);
    if (this.#outputs.length > 0) this.#run();
    else if (!this.#isRunning) this.#arm();
    return frame;
  }

  /** One input after the other, each with its orders carried out before the next. */
  #run(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      this.#carryOut();
      for (let input = this.#inputs.shift(); input !== undefined; input = this.#inputs.shift()) {
        this.#machine.handle(input, this.#ports.now(), this.#outputs);
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

  #order(output: NodeOutput): void {
    const transport = this.#isNetworkClosed ? undefined : this.#transport;
    switch (output.kind) {
      case "call":
        return transport?.call(output.call, output.to, output.request, output.timeoutMs);
      case "answer":
        return transport?.answer(output.call, output.response, output.why);
      case "open":
        return transport?.openLink(output.link, output.to, output.border);
      case "send":
        return transport?.wake(output.link);
      case "close":
        return transport?.closeLink(output.link);
      case "rest":
        return transport?.restLink(output.link, output.forMs);
      case "maintained":
        return this.#maintained(output);
      case "persist":
        return this.#persist(output.batch);
      case "settled":
        return this.#settle(output);
      case "keepGeneration":
        return this.#keepGeneration(output.generation);
      case "confirmed":
        return this.#confirm(output);
      case "gone":
        this.#gone.resolve();
        return;
      case "wake":
        return this.#ports.wake();
      case "adoptPolicy":
      case "caughtUp":
      case "cutProbe":
      case "doubt":
      case "event":
      case "exporters":
      case "generationLost":
      case "handedOver":
      case "keepRoster":
      case "keepSnapshot":
      case "measureLoad":
      case "memberChanged":
      case "memberForgotten":
      case "probe":
      case "readPolicy":
      case "ready":
      case "selfRefused":
      case "serving":
      case "staticEnded":
      case "summariesFollowed":
      case "summaryExported":
      case "summaryRefused":
      case "summaryUnsaid":
      case "takenOver":
        return this.#tell(output);
    }
  }

  #persist(batch: WriteBatch): void {
    const startMonoMs = performance.now();
    this.#ports.write(batch).then(
      () => this.#persisted(batch, startMonoMs),
      (error: unknown) => this.input({ kind: "notPersisted", error }),
    );
  }

  #persisted({ puts }: WriteBatch, startMonoMs: number): void {
    this.input({ kind: "persisted" });
    this.#ports.onCommitted(puts.length, performance.now() - startMonoMs);
  }

  #settle({ through, refusal }: Extract<NodeOutput, { readonly kind: "settled" }>): void {
    const settled = this.#waiting.filter(({ batch }) => batch <= through);
    this.#waiting = this.#waiting.filter(({ batch }) => batch > through);
    for (const { resolve, reject } of settled) {
      if (refusal === undefined) resolve();
      else reject(refusal.error);
    }
  }

  #maintained({ order, maintained }: Extract<NodeOutput, { readonly kind: "maintained" }>): void {
    this.#ordered.get(order)?.(maintained);
    this.#ordered.delete(order);
  }

  #confirm({ refusal }: Extract<NodeOutput, { readonly kind: "confirmed" }>): void {
    const confirming = this.#confirming;
    this.#confirming = undefined;
    if (refusal === undefined) confirming?.resolve();
    else confirming?.reject(refusal.error);
  }

  #tell(told: Told): void {
    for (const follower of this.#followers) follower(told);
  }

  #keepGeneration(generation: number): void {
    this.#ports.renewGeneration(generation).then(
      () => this.input({ kind: "generationKept", generation }),
      (error: unknown) => {
        rethrowBroken(error);
        this.#ports.onRefused(error);
        this.input({ kind: "generationNotKept" });
      },
    );
  }

  /** Sets the one timer. A later deadline leaves the timer as it is, because a tick that comes too early changes nothing. */
  #arm(): void {
    const deadlineMonoMs = this.#isStopped ? NEVER : this.#machine.nextDeadlineMs();
    if (deadlineMonoMs >= this.#timerMonoMs) return;
    clearTimeout(this.#timer);
    this.#timerMonoMs = deadlineMonoMs;
    const tick = () => {
      this.#timerMonoMs = NEVER;
      this.input({ kind: "tick" });
    };
    const waitMs = Math.ceil(deadlineMonoMs - this.#ports.now().monoMs);
    // What is due already waits only for the end of this turn of the event loop. A timer would wait for a millisecond.
    if (waitMs > 0) this.#timer = setTimeout(tick, waitMs);
    else setImmediate(tick);
  }

  #stopLooking(): void {
    clearInterval(this.#lookTimer);
    this.#lookTimer = undefined;
  }

  /** Lets the machine look at the clock, from `begin` until the network is closed. */
  #look(): void {
    if (this.#lookTimer !== undefined && this.#machine.look(this.#ports.now(), this.#outputs)) this.#run();
  }
}
