/**
 * Connects the machine of a node to the journal, the clock and the sockets: it passes inputs to the machine and carries out its orders. The driver
 * does not make any decisions.
 */
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
import { rethrowInvariant } from "../lib/errors.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import type { WriteEligibility } from "./core/write-eligibility.ts";
import { CLOCK_CHECK_MS } from "./core/write-eligibility.ts";
import type { NodeMachine } from "./core.ts";
import type { NodeInput, NodeNotice, NodeOutput } from "./core-io.ts";

/** The parts of the machine that the driver uses. */
export type DrivenMachine = Pick<
  NodeMachine,
  "handle" | "nextDeadlineMs" | "look" | "pull" | "durable" | "show" | "mustConfirm" | "calls"
> & { readonly writeEligibility: Pick<WriteEligibility, "refusal"> };

export interface DriverPorts {
  now(): Time;
  write(batch: WriteBatch): Promise<void>;
  renewGeneration(generation: number): Promise<void>;
  /** Called when records have become visible, `commitMs` milliseconds after they were passed to the journal. */
  onCommitted(recordCount: number, commitMs: number): void;
  /** Called when readers may have new data. */
  wake(): void;
  /** Called when the journal could not write a new generation. The machine will retry. */
  readonly onRefused: (error: unknown) => void;
}

type BatchWaiter = PromiseWithResolvers<void>;

/** Promise for the callers that wait for one batch. */
interface Settlement extends BatchWaiter {
  readonly batch: BatchNumber;
}

export class CoreDriver {
  readonly #machine: DrivenMachine;
  readonly #ports: DriverPorts;
  readonly #inputs: NodeInput[] = [];
  /** Orders that have not been carried out yet, oldest first. */
  readonly #outputs: NodeOutput[] = [];
  /** Callers that wait for a batch: the one that is being written or the one that is being filled. */
  #waiting: Settlement[] = [];
  /** Writes that wait until other nodes have confirmed this process instance. */
  #confirming: BatchWaiter | undefined;
  /** Unanswered orders to other nodes, by number. */
  readonly #ordered = new Map<number, (maintained: MaintenanceResult) => void>();
  #orderCount = 0;
  readonly #followers = new Set<(notice: NodeNotice) => void>();
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

  /**
   * Opens the listener for other nodes. The machine queues their messages until `begin`. If the listener fails, rejects with a message for the
   * operator.
   */
  async open(transport: TransportOptions): Promise<void> {
    this.#transport = await openFabricTransport(transport, this.#events());
  }

  /** Starts communication with other nodes, and the checks. */
  begin(): void {
    this.#lookTimer = setInterval(() => this.#look(), CLOCK_CHECK_MS).unref();
    this.input({ kind: "begin" });
  }

  /**
   * Resolves when everything staged so far is on disk and visible. Rejects if the disk refused the staged records, which are then undone. Undefined
   * if nothing is pending, so a renewal without changes needs no promise.
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
   * Must be called for each write. Usually returns undefined. Returns a promise after a pause of this process, during which other nodes may have
   * accepted another process instance. The promise resolves when other nodes have answered, and rejects with `not_ready` if another process uses this
   * node's id.
   */
  confirmed(): Promise<void> | undefined {
    this.#look();
    if (this.#machine.mustConfirm(this.#ports.now())) {
      this.#confirming ??= Promise.withResolvers();
      return this.#confirming.promise;
    }
    const { refusal } = this.#machine.writeEligibility;
    return refusal === undefined ? undefined : Promise.reject(refusal);
  }

  /** Sends a maintenance override to another node, for entries that are registered on that node. Resolves with the result. */
  maintain(nodeId: string, maintain: MaintenanceCall): Promise<MaintenanceResult> {
    if (this.#isNetworkClosed || this.#isStopped || this.#transport === undefined) return Promise.resolve({ response: undefined });
    const { promise, resolve } = Promise.withResolvers<MaintenanceResult>();
    this.#orderCount += 1;
    this.#ordered.set(this.#orderCount, resolve);
    this.input({ kind: "maintain", order: this.#orderCount, nodeId, maintain });
    return promise;
  }

  /** Calls `follower` with each further notification from the machine. Returns a function that removes the follower. */
  follow(follower: (notice: NodeNotice) => void): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }

  /** Reports a change of the replica to the machine, which then updates names and wakes readers. */
  show(): void {
    this.#machine.show(this.#outputs);
    this.#run();
  }

  /** Bound address, `host:port`. */
  get address(): string {
    return this.#transport?.address ?? "";
  }

  get port(): number {
    return this.#transport?.port ?? 0;
  }

  /** Returns the numbers of frames, calls and bytes, by direction and kind. */
  stats(): readonly TrafficRow[] {
    return this.#transport?.traffic.rows() ?? [];
  }

  /** Returns the transport's numbers of open connections and refused calls. */
  counts(): ReturnType<FabricTransport["counts"]> | undefined {
    return this.#transport?.counts();
  }

  /** Sets the certificates for new connections. If the certificates do not match, throws and keeps the old ones. */
  setTls(tls: FabricTls): void {
    this.#transport?.setTls(tls);
  }

  /** Sets the token for new calls. If the token is invalid, throws and keeps the old one. */
  setClusterToken(token: string): void {
    this.#transport?.setClusterToken(token);
  }

  /** Passes an input to the machine. An input that arrives from a follower waits until the earlier orders have been carried out. */
  input(input: NodeInput): void {
    if (this.#isStopped) return;
    // This code may be the first to run after a pause. The machine must detect the pause before it judges any peer, because this node could not
    // receive messages during the pause.
    this.#look();
    this.#inputs.push(input);
    this.#run();
  }

  /** Leaves the cluster, or only announces a restart. Resolves when the node has stopped sending, at the latest after about `withinMs`. */
  async depart(how: "leave" | "keep", withinMs: number): Promise<void> {
    this.input({ kind: "depart", how, withinMs });
    await this.#gone.promise;
  }

  /** Stops receiving and sending. Sockets that are still open after `deadlineMs` are destroyed. */
  async closeNetwork(deadlineMs: number): Promise<void> {
    this.#isNetworkClosed = true;
    for (const resolve of this.#ordered.values()) resolve({ response: undefined });
    this.#ordered.clear();
    this.#stopLooking();
    await this.#transport?.stop(deadlineMs);
  }

  /** Waits for staged writes, then stops. Idempotent. */
  async close(): Promise<void> {
    // Records that cannot be written are undone, and their writers get an error. The stop continues.
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
      answered: (call, response, failed) => this.#arrived({ kind: "answered", call, response, ...failed }),
      opened: (link, isIncoming, identity) => this.#arrived({ kind: "opened", link, isIncoming, identity }),
      received: (link, frame) => this.#arrived({ kind: "received", link, frame }),
      pull: (link) => this.#pull(link),
      closed: (link, detail) => this.#arrived({ kind: "closed", link, detail }),
      refused: (why, address) => this.input({ kind: "strangerRefused", why, address }),
      unanswered: (address, { why, isRefused }) => this.input({ kind: "unanswered", address, why, isRefused }),
    };
  }

  // HOT: runs per sent frame.
  #pull(link: LinkId): LinkFrame | undefined {
    if (this.#isNetworkClosed) return undefined;
    const frame = this.#machine.pull(link, this.#ports.now(), this.#outputs);
    if (this.#outputs.length > 0) this.#run();
    else if (!this.#isRunning) this.#arm();
    return frame;
  }

  /** Handles the inputs in order. The orders that result from one input are carried out before the next input is handled. */
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
    // Carrying out an order can append further orders, for example because a pull produces orders too.
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
      case "linkChanged":
      case "measureLoad":
      case "memberChanged":
      case "memberForgotten":
      case "probe":
      case "readPolicy":
      case "ready":
      case "selfChanged":
      case "selfRefused":
      case "serving":
      case "standDown":
      case "staticEnded":
      case "summariesFollowed":
      case "summaryExported":
      case "summaryRefused":
      case "summaryUnsaid":
      case "takenOver":
        return this.#notify(output);
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

  #notify(notice: NodeNotice): void {
    for (const follower of this.#followers) follower(notice);
  }

  #keepGeneration(generation: number): void {
    this.#ports.renewGeneration(generation).then(
      () => this.input({ kind: "generationKept", generation }),
      (error: unknown) => {
        rethrowInvariant(error);
        this.#ports.onRefused(error);
        this.input({ kind: "generationNotKept" });
      },
    );
  }

  /** Sets the timer. A timer with an earlier deadline is left unchanged, because an early tick does no harm. */
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
    // A tick that is due runs at the end of this turn of the event loop. A timer would delay the tick by a millisecond.
    if (waitMs > 0) this.#timer = setTimeout(tick, waitMs);
    else setImmediate(tick);
  }

  #stopLooking(): void {
    clearInterval(this.#lookTimer);
    this.#lookTimer = undefined;
  }

  /** Makes the machine check the clock regularly, from `begin` until the network is closed. */
  #look(): void {
    if (this.#lookTimer !== undefined && this.#machine.look(this.#ports.now(), this.#outputs)) this.#run();
  }
}
