/**
 * Writes own records to disk in batches, answers the writers, and carries out maintenance overrides from other nodes. A node confirms a write only
 * while other nodes accept its process instance.
 */
import type { KeyText } from "../../../catalog/record/record.ts";
import type { Replica } from "../../../catalog/replica/replica.ts";
import type { DnsNames } from "../../../discovery/dns-names.ts";
import type { Fanout } from "../../../discovery/fanout.ts";
import { type BatchNumber, CommitCycle } from "../../../discovery/registrar/commit-cycle.ts";
import type { OverrideOutcome } from "../../../discovery/registrar/maintenance.ts";
import type { Registrar } from "../../../discovery/registrar/registrar.ts";
import type { CallId, FabricOutput } from "../../../fabric/io-types.ts";
import { keysOf } from "../../../fabric/maintenance-calls.ts";
import type { MaintainRequest, MemberFacts } from "../../../fabric/wire/messages.ts";
import { type ErrorReason, rethrowInvariant, WaymarkError } from "../../../lib/errors.ts";
import type { Time } from "../../../lib/machine.ts";
import type { NodeHandlers, NodeOutput, NodePart } from "../../core-io.ts";
import type { WriteEligibility } from "../write-eligibility.ts";

/** Retry delay for callers when a node currently refuses overrides, in ms. */
const RETRY_MS = 1000;

type SettledOutput = Extract<NodeOutput, { readonly kind: "settled" }>;

/** Entries taken over from a node that is leaving, until they are written to disk. */
interface TakenOver {
  readonly batch: BatchNumber;
  readonly count: number;
}

export interface WritesParts {
  readonly replica: Replica;
  readonly registrar: Registrar;
  readonly fanout: Fanout;
  readonly dnsNames: Pick<DnsNames, "refresh">;
  readonly writeEligibility: WriteEligibility;
  readonly facts: () => MemberFacts;
  /** Whether a write must wait for `confirmed`. */
  readonly mustConfirm: (time: Time) => boolean;
  readonly isDraining: () => boolean;
  /** Own live records that are hidden by records in the snapshot of other nodes. The node ends the hidden records when it begins. */
  readonly superseded: () => readonly KeyText[];
}

export class NodeWrites implements NodePart {
  readonly commits: CommitCycle;
  readonly #parts: WritesParts;
  readonly #orders: RemoteOverrides;
  /** Answers that are delayed until other nodes have confirmed this process instance. */
  readonly #unconfirmed: SettledOutput[] = [];
  #takenOver: TakenOver[] = [];

  constructor(parts: WritesParts, time: Time) {
    const { registrar, facts } = parts;
    this.#parts = parts;
    this.commits = new CommitCycle(registrar, time);
    const checkWrites = (now: Time) => this.#checkOrders(now);
    this.#orders = new RemoteOverrides({ registrar, self: facts, durable: () => this.commits.durable(), checkWrites });
  }

  readonly handle: NodeHandlers = {
    tick: (_, time) => this.commits.tick(time),
    persisted: (_, time, out) => this.#persisted(time, out),
    notPersisted: ({ error }, time, out) => {
      this.#takenOver = [];
      this.#settle({ kind: "settled", through: this.commits.refused(), refusal: { error } }, time, out);
    },
    changed: (_, _time, out) => this.show(out),
    superseded: ({ keys }, time, out) => this.#endSuperseded(keys as readonly KeyText[], time, out), // oxlint-disable-line typescript/no-unsafe-type-assertion -- keys of records held here
    ordered: (ordered, time, out) => {
      const answer = this.#orders.ordered(ordered, time);
      if (answer !== undefined) out.push(answer);
      this.persist(out);
    },
  };

  begin(time: Time, out: NodeOutput[]): void {
    this.#endSuperseded(this.#parts.superseded(), time, out);
    this.show(out);
  }

  nextDeadlineMs(): number {
    return this.commits.nextDeadlineMs();
  }

  /** Starts the next batch, unless one is being written. */
  persist(out: NodeOutput[]): void {
    const batch = this.commits.start();
    if (batch !== undefined) out.push({ kind: "persist", batch });
  }

  /** After a change of the replica, updates the DNS names and wakes the readers that the change affects. */
  show(out: NodeOutput[]): void {
    const { replica, registrar, fanout, dnsNames } = this.#parts;
    dnsNames.refresh();
    registrar.functionIds.refresh();
    fanout.changed(replica.takeTouched());
    out.push({ kind: "wake" });
  }

  /** Takes over static entries that a leaving node offers. */
  takeOver(offer: Extract<FabricOutput, { readonly kind: "offered" }>, time: Time): void {
    const count = this.#parts.registrar.handOver.take(offer, offer.seqs, time);
    if (count > 0) this.#takenOver.push({ batch: this.commits.durable(), count });
  }

  /** Sends the delayed answers, because other nodes have confirmed this process instance or accept another one. */
  confirmed(out: NodeOutput[]): void {
    const { refusal } = this.#parts.writeEligibility;
    out.push({ kind: "confirmed", ...(refusal !== undefined && { refusal: { error: refusal } }) });
    for (const settled of this.#unconfirmed.splice(0)) this.#push(settled, out);
  }

  /** Checks own live records whose keys have a record from another source node (`Registrar.hear`). */
  #endSuperseded(keys: readonly KeyText[], time: Time, out: NodeOutput[]): void {
    const { registrar } = this.#parts;
    registrar.applyRemoteChanges(keys, time);
    for (const key of registrar.entryRemovals.takeEndedStatic()) out.push({ kind: "staticEnded", key });
    this.persist(out);
  }

  #persisted(time: Time, out: NodeOutput[]): void {
    const through = this.commits.landed(time);
    this.show(out);
    this.#settle({ kind: "settled", through }, time, out);
    for (const { batch, count } of this.#takenOver) if (batch <= through) out.push({ kind: "takenOver", count });
    this.#takenOver = this.#takenOver.filter(({ batch }) => batch > through);
  }

  /** Answers callers in order. */
  #settle(settled: SettledOutput, time: Time, out: NodeOutput[]): void {
    if (this.#unconfirmed.length > 0 || (settled.refusal === undefined && this.#parts.mustConfirm(time))) this.#unconfirmed.push(settled);
    else this.#push(settled, out);
  }

  #push(settled: SettledOutput, out: NodeOutput[]): void {
    const answer = this.#answerOf(settled);
    out.push(answer, ...this.#orders.settled(answer.through, answer.refusal !== undefined));
  }

  #answerOf(settled: SettledOutput): SettledOutput {
    const { refusal } = this.#parts.writeEligibility;
    return settled.refusal === undefined && refusal !== undefined ? { ...settled, refusal: { error: refusal } } : settled;
  }

  /** Throws while this node refuses overrides from other nodes. */
  #checkOrders(time: Time): void {
    const { writeEligibility, isDraining, mustConfirm } = this.#parts;
    if (isDraining()) throw new WaymarkError("draining", "this node is stopping", { retryMs: RETRY_MS });
    writeEligibility.checkWrites();
    if (mustConfirm(time))
      throw new WaymarkError(
        "not_ready",
        "this node's process was paused, and other nodes have not yet confirmed that they still accept it",
        {
          retryMs: RETRY_MS,
        },
      );
  }
}

/** Maintenance overrides from other nodes. Overrides are staged first, and answered when their changes are durable. */
type OrderedOutput = Extract<FabricOutput, { readonly kind: "ordered" }>;
type AnswerOutput = Extract<FabricOutput, { readonly kind: "answer" }>;

interface MaintenanceOrdersParts {
  readonly registrar: Pick<Registrar, "orderMaintenance">;
  /** The name with which this node identifies itself in calls. */
  readonly self: () => MaintainRequest["from"];
  /** Returns the batch that contains everything staged so far, or 0. */
  readonly durable: () => BatchNumber;
  /** Throws while this node refuses writes. */
  readonly checkWrites: (time: Time) => void;
}

interface PendingOverrides {
  readonly batch: BatchNumber;
  readonly call: CallId;
  readonly count: number;
  readonly outcomes: readonly OverrideOutcome[];
}

/** Error detail that another node receives after a failed write. */
const NOT_WRITTEN = "the journal rejects writes";

export class RemoteOverrides {
  readonly #parts: MaintenanceOrdersParts;
  #waiting: PendingOverrides[] = [];

  constructor(parts: MaintenanceOrdersParts) {
    this.#parts = parts;
  }

  /** Stages an override. Returns the answer if nothing needs to be written. */
  ordered({ call, request }: OrderedOutput, time: Time): AnswerOutput | undefined {
    const keys = keysOf(request);
    if (keys === undefined) return { kind: "answer", call, response: undefined, why: "invalid key: kind and cluster are required" };
    const { isOn, reason, untilMs, principal, isForAll } = request;
    let outcomes: readonly OverrideOutcome[];
    try {
      this.#parts.checkWrites(time);
      outcomes = this.#parts.registrar.orderMaintenance(keys, { isOn, reason, untilMs, giver: principal, isOperator: isForAll }, time);
    } catch (error) {
      rethrowInvariant(error);
      if (!(error instanceof WaymarkError)) throw error;
      return this.#answer(call, refusedAll(keys.length, error.reason, error.message));
    }
    const batch = this.#parts.durable();
    if (batch === 0 || outcomes.every(({ kind }) => kind === "refused")) return this.#answer(call, outcomes);
    this.#waiting.push({ batch, call, count: keys.length, outcomes });
    return undefined;
  }

  /** Returns the answers for overrides in batches up to `through`. These batches are durable, or refused if `isRefused`. */
  settled(through: BatchNumber, isRefused: boolean): readonly AnswerOutput[] {
    if (this.#waiting.length === 0) return [];
    const settled = this.#waiting.filter(({ batch }) => batch <= through);
    this.#waiting = this.#waiting.filter(({ batch }) => batch > through);
    return settled.map(({ call, count, outcomes }) =>
      this.#answer(call, isRefused ? refusedAll(count, "store_unavailable", NOT_WRITTEN) : outcomes),
    );
  }

  #answer(call: CallId, outcomes: readonly OverrideOutcome[]): AnswerOutput {
    const refusals = outcomes.flatMap((outcome, index) =>
      outcome.kind === "refused" ? [{ index, reason: outcome.reason, detail: outcome.detail }] : [],
    );
    const changed = outcomes.filter(({ kind }) => kind === "changed").length;
    return { kind: "answer", call, response: { kind: "maintain", from: this.#parts.self(), changed, refusals } };
  }
}

function refusedAll(count: number, reason: ErrorReason, detail: string): readonly OverrideOutcome[] {
  return Array.from({ length: count }, () => ({ kind: "refused", reason, detail }) as const);
}
