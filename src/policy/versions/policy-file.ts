/**
 * Decides when a node's policy file is put in force, and when the cluster's policy has precedence over the file (semantics.md, Policy).
 */
import { WaymarkError } from "../../lib/errors.ts";
import type { PolicySet } from "../set/rules.ts";
import { alone, getItem, type PolicyTask, swap } from "../task.ts";
import type { ChangeAuthor, PolicyStore } from "./policy-store.ts";

/** The result of reading a policy file: a set without errors, or a fault. */
export type FileText =
  | { readonly ok: true; readonly set: PolicySet /** Of the set. */; readonly checksum: string }
  | { readonly ok: false; readonly fault: string };

const FILE_ACTOR: ChangeAuthor = { principal: "policy file", tenant: "", address: "", owns: undefined, mayRead: true };
/** Store key of the checksum of the policy file that was last applied. */
const FILE = "policy/file";
/** Store key of a flag that is set when a node with a policy file is ready and has reached the nodes that it had to join. */
const LET_IN = "policy/let-in";
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

/**
 * The methods of this class are tasks, and each runs exclusively. If each task reads the file when it begins, an older content of the file can
 * therefore never replace a newer one.
 */
export class PolicyFile {
  readonly #policyStore: PolicyStore;
  /**
   * `member`: an edit of the file creates a new version for all nodes. `alone`: the new node is ready, but has not reached the nodes that it had to
   * join. `newcomer`: the node is not ready yet, and its cluster may have a policy. In the states `alone` and `newcomer`, an edit creates only an
   * initial version, over which the cluster's policy has precedence.
   */
  #standing: "newcomer" | "alone" | "member" = "member";

  constructor(policyStore: PolicyStore) {
    this.#policyStore = policyStore;
  }

  /** Whether this node was ready before, in an earlier run with this data directory. Returns false if the store is unavailable. */
  *wasReady(): PolicyTask<boolean> {
    try {
      return (yield* getItem(LET_IN)) !== undefined;
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      return false;
    }
  }

  /** Must be called if the node has to join other nodes and has not reached any. The node is considered new unless it was ready in an earlier run. */
  *begin(): PolicyTask<void> {
    if (!(yield* this.wasReady())) this.awaitCluster();
  }

  /** Must be called if the node is new and will join other nodes. */
  awaitCluster(): void {
    this.#standing = "newcomer";
  }

  /**
   * Puts the file in force if it has changed since it was last put in force. A version that was applied or rolled back by a call therefore remains in
   * force until the file is edited. A file with faults changes nothing; its faults are reported.
   */
  *apply(name: string, file: FileText): PolicyTask<void> {
    yield* alone(() => this.#apply(name, file));
  }

  /**
   * Like `apply`, for a file that may have been edited. `mayBeOthers`: see `letIn`. On a new node, it does nothing and returns false until `letIn`
   * has been called.
   */
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
      // If no version can be read, it is better to use the file than to deny everything.
      return engine.isDenied || (isNews && !isInForce) ? this.#putInForce(name, set) : nothing();
    });
  }

  *#putInForce(name: string, set: PolicySet): PolicyTask<void> {
    const { engine } = this.#policyStore;
    const reason = `policy file ${name} has changed`;
    const isInitial = engine.newestNumber === 0 || (this.#standing !== "member" && engine.beginning !== undefined);
    const terms = { expectedNumber: 0, stage: undefined, reason, changeTicket: "", isInitial };
    yield* this.#policyStore.apply(FILE_ACTOR, { set, terms, isDryRun: false });
  }

  /**
   * Must be called when the node is ready. The file's current content then replaces the initial version of this node. If the cluster has a policy,
   * the file is ignored. `mayBeOthers` means that the node serves alone, and that nodes that it has not reached may have a policy. In this case, the
   * initial version and each edit of it remain initial versions, until `letIn` is called without `mayBeOthers` or `again` finds that the node has
   * reached the others.
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
      // If the swap fails, the file is not read again until the next restart.
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
