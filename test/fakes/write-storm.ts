/** Many writers against one node, with a book of what was sent, acknowledged and removed, to compare with what a crash left. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type Entry, type EntryKey, EntryKeySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Client } from "../../src/client/client.ts";
import { RequestError } from "../../src/client/request-error.ts";

const { catalogQuery, register, unregister } = DiscoveryService.method;
const NAMESPACE = "storm.a";

/** A key as one line of text. */
export function keyLine(key: EntryKey | undefined): string {
  return key === undefined ? "" : [key.namespace, key.name, key.kind, key.instanceId].join(" ");
}

/** Every entry under a prefix, page by page. */
export async function allEntries(client: Client, namespacePrefix: string): Promise<readonly Entry[]> {
  const found: Entry[] = [];
  let pageToken = "";
  do {
    const page = await client.call(catalogQuery, { namespacePrefix, limit: 1000, pageToken }, { timeoutMs: 30_000 });
    found.push(...page.items);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return found;
}

export interface StormOptions {
  readonly writers: number;
  /** Entries a request. */
  readonly batch: number;
  /** Acknowledged registrations to reach, over all runs. */
  readonly total: number;
}

/** What the node may hold of one instance: its content as sent, `gone`, or either when a request was cut. */
type Allowed = ReadonlySet<string>;

const GONE = "gone";

export class WriteStorm {
  readonly #options: StormOptions;
  readonly #allowed = new Map<string, Allowed>();
  #next = 0;
  #isKilled = false;
  ackedCount = 0;
  /** Entries of requests that got no answer: stored or not, whole requests only. */
  unknownCount = 0;
  readonly #cutBatches: (readonly string[])[] = [];

  constructor(options: StormOptions) {
    this.#options = options;
  }

  /** Writes until the total is acknowledged, or until `killAt` are and the node has been killed. */
  async run(client: Client, options: { readonly killAt: number; kill(): void }): Promise<void> {
    this.#isKilled = false;
    const writer = async (): Promise<void> => {
      while (!this.#isKilled && this.ackedCount < this.#options.total) {
        if (!(await this.#request(client))) return;
        if (this.ackedCount < options.killAt || this.#isKilled) continue;
        this.#isKilled = true;
        options.kill();
      }
    };
    await Promise.all(Array.from({ length: this.#options.writers }, writer));
  }

  /** One registration, sometimes followed by its end; false when the node is away. */
  async #request(client: Client): Promise<boolean> {
    const number = this.#next++;
    const ids = Array.from({ length: this.#options.batch }, (_, i) => `${number}-${i}`);
    const content = `port ${1 + (number % 60_000)}`;
    const isStored = await this.#settled(ids, GONE, content, async () => {
      const entries = ids.map((instanceId) => ({
        key: { namespace: NAMESPACE, name: "web", instanceId },
        targets: [{ host: "10.0.0.1", port: 1 + (number % 60_000) }],
      }));
      const lease = number % 3 === 0 ? { staticLease: true } : { ttl: durationFromMs(3_600_000) };
      await client.call(register, { entries, ...lease }, { timeoutMs: 30_000 });
    });
    if (!isStored) return false;
    this.ackedCount += ids.length;
    if (number % 10 !== 0) return true;
    return this.#settled(ids, content, GONE, async () => {
      const keys = ids.map((instanceId) => create(EntryKeySchema, { namespace: NAMESPACE, name: "web", instanceId }));
      await client.call(unregister, { keys }, { timeoutMs: 30_000 });
    });
  }

  async #settled(ids: readonly string[], before: string, after: string, call: () => Promise<void>): Promise<boolean> {
    for (const id of ids) this.#allowed.set(id, new Set([before, after]));
    try {
      await call();
    } catch (error) {
      // Only a node that was killed may leave a request without an answer.
      if (!(error instanceof RequestError) || !this.#isKilled) throw error;
      this.unknownCount += ids.length;
      this.#cutBatches.push(ids);
      return false;
    }
    for (const id of ids) this.#allowed.set(id, new Set([after]));
    return true;
  }

  /** Throws unless the entries are what was promised; what was cut is known from then on. */
  compare(entries: readonly Entry[]): void {
    const found = new Map(entries.map((entry) => [entry.key?.instanceId ?? "", `port ${entry.targets[0]?.port}`]));
    const wrong: string[] = [];
    for (const [id, content] of found) if (this.#allowed.get(id)?.has(content) !== true) wrong.push(`${id} came back as ${content}`);
    for (const [id, allowed] of this.#allowed) if (!found.has(id) && !allowed.has(GONE)) wrong.push(`${id} is missing`);
    // All entries of a request are stored, or none.
    for (const ids of this.#cutBatches.splice(0)) {
      const stored = ids.filter((id) => found.has(id)).length;
      if (stored !== 0 && stored !== ids.length) wrong.push(`${stored} of ${ids.length} of one request: ${ids[0]}`);
      for (const id of ids) this.#allowed.set(id, new Set([found.get(id) ?? GONE]));
    }
    if (wrong.length > 0) throw new Error(`${wrong.length} differ from what was promised: ${wrong.slice(0, 10).join("; ")}`);
  }
}
