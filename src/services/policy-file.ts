/** The policy file of a node: when what it says is put in force, and when the cluster's policy wins over it (semantics.md, Policy). */
import { WaymarkError } from "../lib/errors.ts";
import type { PolicySet } from "../policy/set/rules.ts";
import type { Store, StoreItem } from "../store/control/store.ts";
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

export interface PolicyFileParts {
  readonly policyStore: PolicyStore;
  readonly store: Store;
  readonly onChange: () => Promise<void>;
}

export class KeptPolicyFile {
  readonly #parts: PolicyFileParts;
  #isLetIn = true;
  /** What is being done with the file: one thing at a time, for else what was read first might be put in force last. */
  #turn: Promise<void> = Promise.resolve();

  constructor(parts: PolicyFileParts) {
    this.#parts = parts;
  }

  /** Whether this node was ready before with the data directory that it has. A store that is away says no. */
  async wasReady(): Promise<boolean> {
    return this.#parts.store.get(LET_IN).then(
      (item) => item !== undefined,
      () => false,
    );
  }

  /** Until `letIn` or `join` an edit is a beginning as the file was before: what the cluster has wins over it. */
  awaitCluster(): void {
    this.#isLetIn = false;
  }

  get isLetIn(): boolean {
    return this.#isLetIn;
  }

  /**
   * Puts in force what the file says when that is something else than it said last time, so that what was applied or rolled back by call since
   * then stays until somebody edits the file. A broken file changes nothing, and is told. `read` is called when all calls before this one are done.
   */
  apply(name: string, read: () => FileText): Promise<void> {
    return this.#inTurn(() => this.#apply(name, read()));
  }

  async #apply(name: string, file: FileText): Promise<void> {
    const { policyStore } = this.#parts;
    const { engine } = policyStore;
    await this.#withFile(name, file, async ({ set, checksum }, isNews) => {
      const isInForce = engine.status.newest?.checksum === checksum;
      // With no version that can be read, what the file says is better than denying everything.
      if (!engine.isDenied && (!isNews || isInForce)) return;
      const reason = `policy file ${name} says something new`;
      const isInitial = engine.newestNumber === 0 || (!this.#isLetIn && engine.beginning !== undefined);
      const terms = { expectedNumber: 0, stage: undefined, reason, changeTicket: "", isInitial };
      await policyStore.apply(FILE_ACTOR, { set, problems: [], terms, isDryRun: false });
    });
  }

  /**
   * This node is ready. What the file says by now is an edit of what this node began with; where the cluster has a policy, it is nothing.
   * `mayBeOthers`: it serves alone, and others that it did not reach may have a policy. What a new node began with then stays a beginning, and so does each edit
   * of it until `join`.
   */
  letIn(name: string, read: () => FileText, mayBeOthers: boolean): Promise<void> {
    return this.#inTurn(() => this.#letIn(name, read(), mayBeOthers));
  }

  async #letIn(name: string, file: FileText, mayBeOthers: boolean): Promise<void> {
    const { policyStore, store } = this.#parts;
    const isFirst = !this.#isLetIn;
    if (!mayBeOthers) this.#isLetIn = true;
    const { beginning, newestNumber } = policyStore.engine;
    if (isFirst && newestNumber > 0 && beginning === undefined) await this.#withFile(name, file, () => Promise.resolve());
    else await this.#apply(name, file);
    if (mayBeOthers) return;
    await policyStore.establish();
    await store.compareAndSwap(LET_IN, 0, ENCODER.encode("1"));
  }

  /** It has met others since it was ready: from now on an edit is news for all. */
  join(): void {
    this.#isLetIn = true;
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const run = this.#turn.then(work);
    this.#turn = run.catch(() => undefined);
    return run;
  }

  async #withFile(
    name: string,
    file: FileText,
    work: (file: Extract<FileText, { readonly ok: true }>, isNews: boolean) => Promise<void>,
  ): Promise<void> {
    const { policyStore, store, onChange } = this.#parts;
    const { engine } = policyStore;
    try {
      if (!file.ok) throw new WaymarkError("invalid_argument", file.fault);
      const kept = await store.get(FILE);
      const isNews = kept === undefined || DECODER.decode(kept.value) !== file.checksum || engine.newestNumber === 0;
      await work(file, isNews);
      if (isNews) await this.#keep(kept, file.checksum);
      engine.fileRead("");
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      engine.fileRead(`policy file ${name}: ${file.ok ? error.message : file.fault}`);
      await onChange();
    }
  }

  async #keep(kept: StoreItem | undefined, checksum: string): Promise<void> {
    // A swap that is lost only means that the file is looked at again at the next start.
    await this.#parts.store.compareAndSwap(FILE, kept?.version ?? 0, ENCODER.encode(checksum));
  }
}
