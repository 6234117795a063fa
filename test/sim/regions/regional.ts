/** What a simulated node knows of other regions: its borders, the keys of clusters, and what it says of its own. Signatures are real, by keys from fixed numbers. */
import type { Settings } from "../../../src/config/settings.ts";
import type { Border } from "../../../src/fabric/borders/border.ts";
import { isImported } from "../../../src/fabric/borders/rules.ts";
import type { Time } from "../../../src/lib/machine.ts";
import type { Seals } from "../../../src/node/core/rooms.ts";
import type { ClusterKey } from "../../../src/seal/cluster-keys.ts";
import { KEY_BOUNDS } from "../../../src/seal/cluster-keys.ts";
import { KeyRegistry } from "../../../src/seal/key-registry.ts";
import type { SealedText, SigningKey } from "../../../src/seal/signer.ts";
import type { Draft } from "../../../src/summary/building/drafts.ts";
import type { SimNode } from "../sim-node.ts";

export interface RegionalParts {
  readonly region: string;
  readonly borders: readonly Border[];
  readonly rows: readonly ClusterKey[];
  /** Undefined: a node without the key of its cluster. */
  readonly key: SigningKey | undefined;
  /** Clusters whose policies count. */
  readonly clusters: readonly string[];
  readonly summary: Partial<Settings["summary"]>;
  readonly exported: (node: SimNode, draft: Draft) => void;
}

const NOTHING: readonly SealedText[] = [];

export class Regional {
  readonly #parts: RegionalParts;

  constructor(parts: RegionalParts) {
    this.#parts = parts;
  }

  get borders(): readonly Border[] {
    return this.#parts.borders;
  }

  settings(plain: Settings): Settings {
    const { borders, summary, clusters } = this.#parts;
    const rows = borders.map(({ clusterId, region, addresses, imports, exports, batchIntervalMs, bytesPerSecond }) => {
      const rules = { import: imports, export: exports, batchIntervalMs, bytesPerSecond };
      return { clusterId, region, addresses, ...rules, tokenFile: "border" };
    });
    return {
      ...plain,
      fabric: { ...plain.fabric, borders: rows as unknown as Settings["fabric"]["borders"] },
      policy: { ...plain.policy, acceptFrom: clusters },
      summary: { ...plain.summary, ...summary },
    };
  }

  seals(time: Time): Seals {
    const { rows, key, borders, region } = this.#parts;
    const keys = new KeyRegistry(KEY_BOUNDS);
    keys.configure(rows, time);
    return {
      keys,
      signer: key,
      announcements: () => NOTHING,
      imports: (source, namespace) => keys.regionOf(source) === region || isImported(borders, source, namespace),
      onAgain: () => {},
    };
  }

  exported(node: SimNode, draft: Draft): void {
    this.#parts.exported(node, draft);
  }
}
