/**
 * Watches a prefix in etcd. The watch reads all items as of one revision, page by page, and then opens a stream of the changes after that revision, over
 * the same connection. It starts over if the connection or the stream ends, because etcd may lose its data and reach higher revisions meanwhile. No
 * revision and no id of etcd shows this. A step ends at the end of a revision, so that each transaction is in one step.
 */
import type { GrpcStatus } from "../../grpc/wire/status.ts";
import { assert, CODES, WaymarkError } from "../../lib/errors.ts";
import { changesOf, PendingChanges } from "../control/pending-changes.ts";
import { MAX_PAGE_ITEMS, type StoreChanges, type StoreWatch } from "../control/store.ts";
import { type EtcdClient, type EtcdSession, type EtcdStream, ifWithoutHistory } from "./client.io.ts";
import type { PageRange, WatchMessage } from "./codec.ts";

/** The next page of a reset. All pages show one revision, which is 0 before the first page. */
type ResetPosition = Omit<PageRange, "limit">;

const FIRST_PAGE: ResetPosition = { after: "", revision: 0 };

export class EtcdWatch implements StoreWatch {
  readonly #client: EtcdClient;
  readonly #prefix: string;
  readonly #onClose: () => void;
  #reset: ResetPosition | undefined = FIRST_PAGE;
  /** The session of the pages since the last reset. Undefined before the first page. */
  #session: EtcdSession | undefined;
  /** The revision of the pages. */
  #revision = 0;
  #stream: EtcdStream | undefined;
  /** The error with which the last stream ended. */
  #fault: WaymarkError | undefined;
  /** Above the bounds, etcd is slowed down by flow control. One more message may arrive. */
  readonly #pending = new PendingChanges();
  /** All changes up to this revision have arrived. */
  #arrivedRevision = 0;
  #wake: (() => void) | undefined;
  #isBusy = false;
  #isClosed = false;

  constructor(client: EtcdClient, prefix: string, onClose: () => void) {
    this.#client = client;
    this.#prefix = prefix;
    this.#onClose = onClose;
  }

  async next(): Promise<StoreChanges | undefined> {
    assert(!this.#isBusy, "next() was called on a watch before its previous call ended", { prefix: this.#prefix });
    this.#isBusy = true;
    try {
      let found: StoreChanges | undefined;
      while (!this.#isClosed && found === undefined) found = await this.#step().catch((error: unknown) => this.#startOver(error));
      return this.#isClosed ? undefined : found;
    } finally {
      this.#isBusy = false;
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#onClose();
    this.#endStream();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Starts over, and rethrows errors that the reader must see. */
  #startOver(error: unknown): undefined {
    this.#reset = FIRST_PAGE;
    if (!this.#isClosed) ifWithoutHistory(error);
  }

  /** Returns the next changes. Undefined if another step must follow. */
  async #step(): Promise<StoreChanges | undefined> {
    const fault = this.#fault;
    this.#fault = undefined;
    if (fault !== undefined) throw fault;
    if (this.#reset !== undefined) return this.#readPage(this.#reset);
    if (this.#stream === undefined) return this.#open();
    const found = this.#pending.take(this.#arrivedRevision);
    if (found === undefined) await this.#arrival();
    return found;
  }

  async #readPage({ after, revision }: ResetPosition): Promise<StoreChanges | undefined> {
    const page = await this.#client.page(this.#prefix, { after, limit: MAX_PAGE_ITEMS, revision });
    const isReset = revision === 0;
    if (isReset) {
      this.#session = page.session;
      this.#revision = page.revision;
    } else if (page.session !== this.#session) {
      this.#reset = FIRST_PAGE;
      return undefined;
    }
    const isCurrent = page.nextAfter === undefined;
    this.#reset = page.nextAfter === undefined ? undefined : { after: page.nextAfter, revision: this.#revision };
    return { isReset, changes: changesOf(page.items), revision: this.#revision, isCurrent };
  }

  /** Watches the changes after the revision of the pages. */
  async #open(): Promise<undefined> {
    const session = this.#session;
    if (session === undefined || session.isOver) {
      this.#reset = FIRST_PAGE;
      return;
    }
    this.#arrivedRevision = 0;
    const stream = await this.#client.openWatch(session, this.#client.codec.watchRequest(this.#prefix, this.#revision), {
      message: (bytes) => this.#message(stream, bytes),
      closed: ({ status }) => this.#ended(stream, status),
    });
    this.#stream = stream;
    if (this.#isClosed) this.#endStream();
  }

  #message(stream: EtcdStream, bytes: Uint8Array): void {
    if (stream !== this.#stream) return;
    try {
      const message = this.#client.codec.readWatch(bytes);
      this.#keep(message);
      if (message.canceled !== undefined) this.#ended(stream, message.canceled);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      this.#ended(stream, { code: CODES.INTERNAL, message: error.message });
    }
    this.#wake?.();
  }

  #keep({ changes, isPartial }: WatchMessage): void {
    for (const change of changes) if (change.version > this.#revision) this.#pending.add(change);
    const last = changes.at(-1);
    if (last !== undefined) this.#arrivedRevision = isPartial ? last.version - 1 : last.version;
    if (this.#pending.isAboveBounds) this.#stream?.call.pause();
  }

  #ended(stream: EtcdStream, status: GrpcStatus): void {
    if (stream !== this.#stream) return;
    this.#fault = stream.fail(status);
    this.#endStream();
  }

  /** Ends the stream. The changes that wait are dropped, because the watch starts over. */
  #endStream(): void {
    this.#pending.clear();
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.call.cancel();
    this.#wake?.();
  }

  /** Waits for a message or the end of the stream. */
  #arrival(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.#stream?.call.resume();
    });
  }
}
