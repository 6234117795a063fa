/** The policy file of a node: when what it says is put in force, and when the cluster's policy wins over it (semantics.md, Policy). */
import { WaymarkError } from "../../lib/errors.ts";
import type { PolicySet } from "../set/rules.ts";
import { alone, getItem, swap, type Task } from "../task.ts";
import type { Actor, PolicyStore } from "./policy-store.ts";

/** A policy file that was read: its set without errors, or why there is none. */
export type FileText =
  | { readonly ok: true; readonly set: PolicySet /** Of the set. */; readonly checksum: string }
  | { readonly ok: false; readonly fault: string };

const FILE_ACTOR: Actor = { principal: "policy file", tenant: "", address: "", owns: undefined, mayRead: true };
/** Where the checksum of the policy file is kept that was applied last. */
const FILE = "policy/file";
/** Is there once a node with a policy file was ready, and not alone beside others that it did not reach. */
const LET_IN = "policy/let-in";
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

/**
 * Its methods are tasks, and each is the only one until it is done: what is read first is never put in force last, if the file is read when the task
 * is begun.
 */
export class PolicyFile {
  readonly #policyStore: PolicyStore;
  /**
   * member: an edit is news for all. alone: it is new, is ready, and did not reach those that it was to join. newcomer: it is not ready yet, and its
   * cluster may have a policy. Of the last two an edit is a beginning, as the file was before: what the cluster has wins over it.
   */
  #standing: "newcomer" | "alone" | "member" = "member";

  constructor(policyStore: PolicyStore) {
    this.#policyStore = policyStore;
  }

  /** Whether this node was ready before with the data directory that it has. A store that is away says no. */
  *wasReady(): Task<boolean> {
    try {
      return (yield* getItem(LET_IN)) !== undefined;
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      return false;
    }
  }

  /** The node is to join others, and has met none: it is new unless it was ready before. */
  *begin(): Task<void> {
    if (!(yield* this.wasReady())) this.awaitCluster();
  }

  /** The node is new, and is to join others. */
  awaitCluster(): void {
    this.#standing = "newcomer";
  }

  /**
   * Puts in force what the file says when that is something else than it said last time, so that what was applied or rolled back by call since
   * then stays until somebody edits the file. A broken file changes nothing, and is told.
   */
  *apply(name: string, file: FileText): Task<void> {
    yield* alone(() => this.#apply(name, file));
  }

  /** As `apply`, when the file may have been edited. `mayBeOthers`: see `letIn`. Returns false, and does nothing, before `letIn` of a new node. */
  *again(name: string, file: FileText, mayBeOthers: boolean): Task<boolean> {
    return yield* alone(() => this.#again(name, file, mayBeOthers));
  }

  *#again(name: string, file: FileText, mayBeOthers: boolean): Task<boolean> {
    if (this.#standing === "newcomer") return false;
    if (!mayBeOthers) this.#standing = "member";
    yield* this.#apply(name, file);
    return true;
  }

  *#apply(name: string, file: FileText): Task<void> {
    const { engine } = this.#policyStore;
    yield* this.#withFile(name, file, ({ set, checksum }, isNews) => {
      const isInForce = engine.status.newest?.checksum === checksum;
      // With no version that can be read, what the file says is better than denying everything.
      return engine.isDenied || (isNews && !isInForce) ? this.#putInForce(name, set) : nothing();
    });
  }

  *#putInForce(name: string, set: PolicySet): Task<void> {
    const { engine } = this.#policyStore;
    const reason = `policy file ${name} says something new`;
    const isInitial = engine.newestNumber === 0 || (this.#standing !== "member" && engine.beginning !== undefined);
    const terms = { expectedNumber: 0, stage: undefined, reason, changeTicket: "", isInitial };
    yield* this.#policyStore.apply(FILE_ACTOR, { set, problems: [], terms, isDryRun: false });
  }

  /**
   * This node is ready. What the file says by now is an edit of what this node began with; where the cluster has a policy, it is nothing.
   * `mayBeOthers`: it serves alone, and others that it did not reach may have a policy. What a new node began with then stays a beginning, and so does each edit
   * of it until it is let in among them, or `again` finds that it has met them.
   */
  *letIn(name: string, file: FileText, mayBeOthers: boolean): Task<void> {
    yield* alone(() => this.#letIn(name, file, mayBeOthers));
  }

  *#letIn(name: string, file: FileText, mayBeOthers: boolean): Task<void> {
    const isFirst = this.#standing !== "member";
    if (isFirst) this.#standing = mayBeOthers ? "alone" : "member";
    const { beginning, newestNumber } = this.#policyStore.engine;
    if (isFirst && newestNumber > 0 && beginning === undefined) yield* this.#withFile(name, file, nothing);
    else yield* this.#apply(name, file);
    if (mayBeOthers) return;
    yield* this.#policyStore.establish();
    yield* swap(LET_IN, 0, ENCODER.encode("1"));
  }

  *#withFile(
    name: string,
    file: FileText,
    work: (file: Extract<FileText, { readonly ok: true }>, isNews: boolean) => Task<void>,
  ): Task<void> {
    const { engine } = this.#policyStore;
    try {
      if (!file.ok) throw new WaymarkError("invalid_argument", file.fault);
      const kept = yield* getItem(FILE);
      const isNews = kept === undefined || DECODER.decode(kept.value) !== file.checksum || engine.newestNumber === 0;
      yield* work(file, isNews);
      // A swap that is lost only means that the file is looked at again at the next start.
      if (isNews) yield* swap(FILE, kept?.version ?? 0, ENCODER.encode(file.checksum));
      engine.fileRead("");
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      engine.fileRead(`policy file ${name}: ${file.ok ? error.message : file.fault}`);
      yield { kind: "shown" };
    }
  }
}

function* nothing(): Task<void> {}
