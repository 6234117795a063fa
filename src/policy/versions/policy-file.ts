/** Decides when the policy file of a node is put in force, and when the policy of the cluster wins over it (semantics.md, Policy). */
import { WaymarkError } from "../../lib/errors.ts";
import type { PolicySet } from "../set/rules.ts";
import { alone, getItem, type PolicyTask, swap } from "../task.ts";
import type { ChangeAuthor, PolicyStore } from "./policy-store.ts";

/** A policy file after reading: its set without errors, or its fault. */
export type FileText =
  | { readonly ok: true; readonly set: PolicySet /** Of the set. */; readonly checksum: string }
  | { readonly ok: false; readonly fault: string };

const FILE_ACTOR: ChangeAuthor = { principal: "policy file", tenant: "", address: "", owns: undefined, mayRead: true };
/** Key of the checksum of the policy file that was applied last. */
const FILE = "policy/file";
/** Key of a mark. It is set once a node with a policy file is ready and has met the nodes that it was to join. */
const LET_IN = "policy/let-in";
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

/**
 * Its methods are tasks, and each runs alone. So an older text of the file never replaces a newer one, if the file is read when the task
 * begins.
 */
export class PolicyFile {
  readonly #policyStore: PolicyStore;
  /**
   * `member`: an edit of the file is a new version for all nodes. `alone`: the new node is ready, and has not reached the nodes that it was to
   * join. `newcomer`: the node is not ready yet, and its cluster may have a policy. For the last two, an edit is only a beginning: the policy
   * of the cluster wins over it.
   */
  #standing: "newcomer" | "alone" | "member" = "member";

  constructor(policyStore: PolicyStore) {
    this.#policyStore = policyStore;
  }

  /** Whether this node was ready before with this data directory. False if the store is unavailable. */
  *wasReady(): PolicyTask<boolean> {
    try {
      return (yield* getItem(LET_IN)) !== undefined;
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      return false;
    }
  }

  /** The node is to join others, and has met none: it is new unless it was ready before. */
  *begin(): PolicyTask<void> {
    if (!(yield* this.wasReady())) this.awaitCluster();
  }

  /** The node is new, and will join other nodes. */
  awaitCluster(): void {
    this.#standing = "newcomer";
  }

  /**
   * Puts the file in force if it has changed since the last time. So a version that was applied or rolled back by a call stays until the file
   * is edited. A broken file changes nothing, and is reported.
   */
  *apply(name: string, file: FileText): PolicyTask<void> {
    yield* alone(() => this.#apply(name, file));
  }

  /** Like `apply`, when the file may have been edited. `mayBeOthers`: see `letIn`. On a new node it does nothing before `letIn`, and returns false. */
  *again(name: string, file: FileText, mayBeOthers: boolean): PolicyTask<boolean> {
    return yield* alone(() => this.#again(name, file, mayBeOthers));
  }

  *#again(name: string, file: FileText, mayBeOthers: boolean): PolicyTask<boolean> {
    if (this.#standing === "newcomer") return false;
    if (!mayBeOthers) this.#standing = "member";
    yield* this.#apply(name, file);
    return true;
  }

  *#apply(name: string, file: FileText): PolicyTask<void> {
    const { engine } = this.#policyStore;
    yield* this.#withFile(name, file, ({ set, checksum }, isNews) => {
      const isInForce = engine.status.newest?.checksum === checksum;
      // If no version can be read, the file is better than denying everything.
      return engine.isDenied || (isNews && !isInForce) ? this.#putInForce(name, set) : nothing();
    });
  }

  *#putInForce(name: string, set: PolicySet): PolicyTask<void> {
    const { engine } = this.#policyStore;
    const reason = `policy file ${name} says something new`;
    const isInitial = engine.newestNumber === 0 || (this.#standing !== "member" && engine.beginning !== undefined);
    const terms = { expectedNumber: 0, stage: undefined, reason, changeTicket: "", isInitial };
    yield* this.#policyStore.apply(FILE_ACTOR, { set, terms, isDryRun: false });
  }

  /**
   * This node is ready. The current text of the file is an edit of the beginning of this node. If the cluster has a policy, the file is ignored.
   * `mayBeOthers`: the node serves alone, and nodes that it has not reached may have a policy. Then the beginning and each edit of it stay a
   * beginning, until this is called without `mayBeOthers` or `again` finds that the node has met them.
   */
  *letIn(name: string, file: FileText, mayBeOthers: boolean): PolicyTask<void> {
    yield* alone(() => this.#letIn(name, file, mayBeOthers));
  }

  *#letIn(name: string, file: FileText, mayBeOthers: boolean): PolicyTask<void> {
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
    work: (file: Extract<FileText, { readonly ok: true }>, isNews: boolean) => PolicyTask<void>,
  ): PolicyTask<void> {
    const { engine } = this.#policyStore;
    try {
      if (!file.ok) throw new WaymarkError("invalid_argument", file.fault);
      const kept = yield* getItem(FILE);
      const isNews = kept === undefined || DECODER.decode(kept.value) !== file.checksum || engine.newestNumber === 0;
      yield* work(file, isNews);
      // If the swap fails, the file is only looked at again at the next start.
      if (isNews) yield* swap(FILE, kept?.version ?? 0, ENCODER.encode(file.checksum));
      engine.fileRead("");
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      engine.fileRead(`policy file ${name}: ${file.ok ? error.message : file.fault}`);
      yield { kind: "shown" };
    }
  }
}

function* nothing(): PolicyTask<void> {}
