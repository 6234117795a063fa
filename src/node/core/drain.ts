/** Follows the desired state of this node: a cordoned node accepts nothing new, and a draining node moves everything that it has to other nodes. */
import { keyLabel } from "../../catalog/record/record.ts";
import { Drain, type DrainProgress, type DrainTask } from "../../control/peers/drain.ts";
import { ACTIVE_NODE, type DesiredNode } from "../../control/peers/records.ts";
import type { Fanout } from "../../discovery/fanout.ts";
import type { Registrar } from "../../discovery/registrar/registrar.ts";
import { eventOutput } from "../../fabric/io-types.ts";
import type { MemberFacts } from "../../fabric/wire/messages.ts";
import type { Time } from "../../lib/machine.ts";
import { MAX_SUBJECTS } from "../../policy/audit/record.ts";
import type { NodeHandlers, NodeNews, NodeOutput, NodePart } from "../core-io.ts";
import type { SelfEntry } from "./self-entry.ts";

export interface NodeDrainParts {
  readonly nodeId: string;
  readonly registrar: Pick<Registrar, "endLeft" | "handOver" | "isDraining">;
  readonly fanout: Pick<Fanout, "drain" | "size">;
  readonly self: Pick<SelfEntry, "follow" | "urls">;
  /** The nodes that may take over static entries. */
  readonly takers: () => Parameters<Registrar["handOver"]["step"]>[0];
  /** For this time (ms), clients can have the addresses of the node in their caches. */
  readonly addressesMs: number;
  /** Whether read workers serve watches. */
  readonly hasWorkers: boolean;
  readonly isServing: () => boolean;
  /** Whether records of this node are not on disk yet. */
  readonly isWriting: () => boolean;
  /** Passes a message to the other parts. */
  readonly deliver: (news: NodeNews, time: Time, out: NodeOutput[]) => void;
}

/** Watches end at most in this time (ms), so that not all clients reconnect at the same time. A few watches need less. */
const WATCHES_MS = 10_000;
/** Time (ms) between the ends of two watches, if they are few. */
const WATCH_MS = 20;
/** Maximum number of entries that a forced drain ends in one step. */
const BATCH_COUNT = 1000;
/** Minimum time (ms) between two reports of the numbers that are left. */
const REPORT_MS = 1000;

/** The facts about a node that operators have asked for, or that they want to know. */
type DrainFacts = Pick<MemberFacts, "desired" | "drain" | "isServing"> & { readonly labels: Readonly<Record<string, string>> };

export class NodeDrain implements NodePart {
  readonly #parts: NodeDrainParts;
  readonly #drain: Drain;
  #desired: DesiredNode = ACTIVE_NODE;
  /** Undefined until the control plane of this node has answered. */
  #leadersLeft: { readonly leaderCount: number; readonly ownerCount: number } | undefined;
  #isHidden = false;
  #wasServing = false;
  /** Whether the facts can have changed since the last report. */
  #isDirty = false;
  /** The facts of the last report, and its time. */
  #reported = "";
  #reportedMonoMs = Number.NEGATIVE_INFINITY;
  /** Outputs of the tasks, which the current call passes on. */
  readonly #outputs: NodeOutput[] = [];
  readonly #offers: Extract<NodeNews, { readonly kind: "offer" }>[] = [];

  constructor(parts: NodeDrainParts) {
    this.#parts = parts;
    this.#drain = new Drain([this.#leaders(), this.#leases(), this.#staticEntries(), this.#addresses(), this.#watches()]);
  }

  readonly handle: NodeHandlers = {
    desired: (desired, time, out) => {
      const before = this.#desired;
      const isOther = desired.desired !== before.desired;
      this.#desired = desired;
      const changes = { nodeId: this.#parts.nodeId, desired: desired.desired, before: before.desired };
      if (isOther) out.push(eventOutput("node_desired", "info", changes, { isAudited: true }));
      if (isOther || !isSame(desired.labels, before.labels)) this.#showSelf(time, out);
      this.#drain.follow(desired.drain, time);
      // The tasks of a drain that is cancelled have outputs, and no later look passes them on.
      for (const output of this.#outputs.splice(0)) out.push(output);
      this.#isDirty = true;
    },
    leadersLeft: (left) => {
      this.#leadersLeft = left;
    },
  };

  /** Whether this node accepts nothing new. */
  get isCordoned(): boolean {
    return this.#desired.desired !== "active";
  }

  /** Undefined if there is no drain. */
  get progress(): DrainProgress | undefined {
    return this.#drain.progress;
  }

  facts(): DrainFacts {
    const { desired, labels } = this.#desired;
    const { progress: drain } = this.#drain;
    const isServing = this.#parts.isServing();
    const shown = drain && { drain: { ...drain, urls: this.#parts.self.urls } };
    return { labels, ...(isServing && { isServing }), ...(desired !== "active" && { desired }), ...shown };
  }

  look(time: Time, out: NodeOutput[]): void {
    const before = this.#drain.progress;
    if (!this.#drain.look(time)) return;
    this.#isDirty = true;
    this.#report(before, out);
    for (const output of this.#outputs.splice(0)) out.push(output);
    for (const offer of this.#offers.splice(0)) this.#parts.deliver(offer, time, out);
  }

  /** Whether the facts must be announced again. HOT: runs after every input, and usually compares only one flag. */
  takeNews({ monoMs }: Time): boolean {
    const isServing = this.#parts.isServing();
    if (isServing === this.#wasServing && !this.#isDirty) return false;
    this.#wasServing = isServing;
    const { drain, ...others } = this.facts();
    const urgent = JSON.stringify([others, drain?.step, drain?.isStuck]);
    const facts = `${urgent} ${JSON.stringify(drain?.left)}`;
    const isDue = !this.#reported.startsWith(urgent) || monoMs >= this.#reportedMonoMs + REPORT_MS;
    this.#isDirty = facts !== this.#reported && !isDue;
    if (facts === this.#reported || !isDue) return false;
    this.#reported = facts;
    this.#reportedMonoMs = monoMs;
    return true;
  }

  nextDeadlineMs(): number {
    return this.#drain.nextDeadlineMs();
  }

  #report(before: DrainProgress | undefined, out: NodeOutput[]): void {
    const { step, isStuck, left } = this.#drain.progress ?? {};
    const kinds = left?.map(({ kind, count }) => `${kind}=${count}`).join(" ");
    if (step !== undefined && step !== before?.step) out.push(eventOutput("drain_step", "info", { step, left: kinds ?? "" }));
    if (isStuck === true && before?.isStuck !== true)
      out.push(
        eventOutput("drain_stuck", "warn", { nodeId: this.#parts.nodeId, step: step ?? "", left: kinds ?? "" }, { isAudited: true }),
      );
  }

  #showSelf(time: Time, out: NodeOutput[]): void {
    const { desired, labels } = this.#desired;
    this.#parts.self.follow({ isInMaintenance: desired !== "active", isHidden: this.#isHidden, labels }, time, out);
  }

  #leaders(): DrainTask {
    const stand = (isDown: boolean) => {
      this.#leadersLeft = undefined;
      this.#outputs.push({ kind: "standDown", isDown });
    };
    return {
      begin: () => stand(true),
      advance: () => ({ leaders: this.#leadersLeft?.leaderCount ?? 1, owners: this.#leadersLeft?.ownerCount ?? 0 }),
      // Their streams have ended, and fences reject their late writes.
      end: () => {
        this.#leadersLeft = { leaderCount: 0, ownerCount: 0 };
      },
      cancel: () => stand(false),
    };
  }

  /** Returns the number of entries that are left. Something is left until all changes are on disk, because a failed write undoes them. */
  #unwritten(leftCount: number): number {
    return leftCount === 0 && this.#parts.isWriting() ? 1 : leftCount;
  }

  #endLeft(kind: "leased" | "static", time: Time): void {
    const { registrar, nodeId } = this.#parts;
    const labels = registrar.endLeft(kind, BATCH_COUNT, time).map(keyLabel);
    while (labels.length > 0) {
      const subjects = labels.splice(0, MAX_SUBJECTS - 1);
      this.#outputs.push(eventOutput("drain_forced", "warn", { nodeId, kind, count: subjects.length }, { isAudited: true, subjects }));
    }
  }

  #leases(): DrainTask {
    const { registrar } = this.#parts;
    return {
      begin: () => {
        registrar.isDraining = true;
      },
      advance: () => ({ leases: this.#unwritten(registrar.handOver.releaseMoved()) }),
      end: (time) => this.#endLeft("leased", time),
      cancel: () => {
        registrar.isDraining = false;
      },
    };
  }

  #staticEntries(): DrainTask {
    const { registrar, takers } = this.#parts;
    const { handOver } = registrar;
    return {
      begin: (time) => handOver.begin(time),
      advance: (time) => {
        const { offers, isOver } = handOver.step(takers(), time);
        for (const { nodeId, seqs } of offers) this.#offers.push({ kind: "offer", nodeId, seqs });
        const { length } = handOver.left();
        if (isOver && length > 0) handOver.begin(time);
        return { static_entries: this.#unwritten(length) };
      },
      end: (time) => this.#endLeft("static", time),
      cancel: () => {},
    };
  }

  #addresses(): DrainTask {
    let untilMonoMs = 0;
    const hide = (isHidden: boolean, time: Time) => {
      this.#isHidden = isHidden;
      this.#showSelf(time, this.#outputs);
    };
    return {
      begin: (time) => {
        untilMonoMs = time.monoMs + this.#parts.addressesMs;
      },
      advance: (time) => {
        // Repeated, because a failed write publishes the entry again.
        hide(true, time);
        return { seconds: Math.ceil(Math.max(0, untilMonoMs - time.monoMs) / 1000) };
      },
      end: ({ monoMs }) => {
        untilMonoMs = monoMs;
      },
      cancel: (time) => hide(false, time),
    };
  }

  #watches(): DrainTask {
    const { fanout } = this.#parts;
    let [beginMonoMs, spreadMs, isForced] = [0, WATCHES_MS, false];
    return {
      begin: ({ monoMs }) => {
        beginMonoMs = monoMs;
        // The watches of read workers are not known here.
        spreadMs = this.#parts.hasWorkers ? WATCHES_MS : Math.min(WATCHES_MS, fanout.size * WATCH_MS);
      },
      advance: ({ monoMs }) => {
        const doneMs = monoMs - beginMonoMs;
        fanout.drain(doneMs >= spreadMs ? 1 : Math.max(0.01, doneMs / spreadMs));
        const isOpen = doneMs < spreadMs || fanout.size > 0;
        return { watches: isOpen && !isForced ? Math.max(1, fanout.size) : 0 };
      },
      end: () => {
        isForced = true;
        fanout.drain(1);
      },
      cancel: () => {
        isForced = false;
        fanout.drain(0);
      },
    };
  }
}

function isSame(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const [keys, others] = [Object.keys(a), Object.keys(b)];
  return keys.length === others.length && keys.every((key) => a[key] === b[key]);
}
