/** The roots in the control store: publishes and drops them. Every node applies such a change within seconds. */
import type { RootCertificate } from "../../lib/certificates/roots.io.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { allItems } from "../../store/control/all-items.io.ts";
import type { ControlStore, StoreItem, StoreWrite } from "../../store/control/store.ts";
import { decodeIssuer, decodeName, encodeIdentity, ISSUERS, NAMES, nameOfKey, ROOTS } from "./records.ts";
import { judgeDrop, judgePublish, type RecordedHolders, type RotationState } from "./rotation.ts";

export interface RootStoreOptions {
  readonly store: ControlStore;
  readonly state: () => RotationState;
  readonly readRoots: (pem: string) => readonly RootCertificate[];
}

const ID_LENGTH = 16;

export class RootStore {
  readonly #options: RootStoreOptions;

  constructor(options: RootStoreOptions) {
    this.#options = options;
  }

  get state(): RotationState {
    return this.#options.state();
  }

  /** Throws for a certificate that cannot be read. */
  read(pem: string): readonly RootCertificate[] {
    return this.#options.readRoots(pem);
  }

  /** Reads a root that can be published. Throws `invalid_argument`. */
  readOne(pem: string, wallMs: number): RootCertificate {
    const [root, ...others] = wellFormed(() => this.read(pem));
    if (root === undefined || others.length > 0) throw invalid("certificate", "must be one certificate in PEM");
    if (!root.isAuthority) throw invalid("certificate", `must be a CA certificate, and ${root.name} is none`);
    if (wallMs >= root.expiresWallMs) throw invalid("certificate", `it ended at ${new Date(root.expiresWallMs).toISOString()}`);
    return root;
  }

  /** Publishes a root, unless it is published. Rejects with `quota_exceeded`. */
  async publish({ digest, certificate }: RootCertificate, wallMs: number): Promise<void> {
    const { items } = await this.#options.store.list(ROOTS);
    const key = ROOTS + digest;
    if (items.every((item) => item.key !== key)) {
      judgePublish(items.length);
      await this.#write(items, [{ key, value: encodeIdentity({ certificate, publishedWallMs: wallMs }) }]);
    }
  }

  /** Drops a root, and the records of issuers under it. Rejects with `not_found`, `invalid_argument` or `not_ready`. */
  async drop(rootId: string, isForced: boolean, wallMs: number): Promise<void> {
    const { items } = await this.#options.store.list(ROOTS);
    const root = items.find(({ key }) => idOfKey(key) === rootId);
    if (root === undefined) throw new WaymarkError("not_found", `root_id: there is no root ${rootId}`);
    const { keys, ...recorded } = await this.#usersOf(rootId, wallMs);
    judgeDrop(rootId, { ...this.state, published: items.map(({ key }) => idOfKey(key)) }, recorded, isForced);
    await this.#write(
      items,
      [root.key, ...keys].map((key) => ({ key, value: undefined })),
    );
  }

  /** The programs that have certificates under a root, and the keys of the records of issuers under it. */
  async #usersOf(rootId: string, wallMs: number): Promise<RecordedHolders & { readonly keys: readonly string[] }> {
    const [under, elsewhere] = [new Map<string, string>(), new Set<string>()];
    for await (const { key, value } of allItems(this.#options.store, ISSUERS)) {
      const record = decodeIssuer(value);
      if (record?.rootKey.startsWith(rootId) === true) under.set(key, record.nodeId);
      else if (record !== undefined) elsewhere.add(record.nodeId);
    }
    const live = new Set(this.state.members?.map(({ nodeId }) => nodeId));
    const programs: string[] = [];
    for await (const { key, value } of allItems(this.#options.store, NAMES)) {
      const [name, record] = [nameOfKey(key), decodeName(value)];
      if (name === undefined || record === undefined || record.isRevoked) continue;
      if (name.role === "node" && !live.has(name.name)) continue;
      if (record.expiresWallMs > wallMs && under.has(ISSUERS + record.issuerKey)) programs.push(`${name.role} ${name.name}`);
    }
    return { keys: [...under.keys()], issuers: [...new Set(under.values())].filter((node) => !elsewhere.has(node)), programs };
  }

  /** Changes the roots, if they are still the same. */
  async #write(roots: readonly StoreItem[], changes: readonly StoreWrite[]): Promise<void> {
    const conditions = roots.map(({ key, version }) => ({ key, version }));
    const { isCommitted } = await this.#options.store.transact(conditions, changes);
    if (!isCommitted) throw new WaymarkError("version_conflict", "another request changed the roots at the same time; retry");
  }
}

function idOfKey(key: string): string {
  return key.slice(ROOTS.length, ROOTS.length + ID_LENGTH);
}

function wellFormed<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw invalid("certificate", `cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}
