/** What a simulated node knows of other regions: its borders, the keys of clusters, and what it says of its own. Signatures are real, by keys from fixed numbers. */
import type { Settings } from "../../../src/config/settings.ts";
import type { Border } from "../../../src/fabric/borders/border.ts";
import { importRule } from "../../../src/fabric/borders/rules/rules.ts";
import type { Time } from "../../../src/lib/machine.ts";
import type { SummaryKeySources } from "../../../src/node/core/rooms.ts";
import type { NodeNotice } from "../../../src/node/core-io.ts";
import type { ClusterKey } from "../../../src/signing/cluster-keys.ts";
import { KEY_BOUNDS } from "../../../src/signing/cluster-keys.ts";
import { KeyRegistry } from "../../../src/signing/key-registry.ts";
import type { ClusterSigner, SignedBytes, SigningKey } from "../../../src/signing/signer.ts";
import type { Draft } from "../../../src/summary/building/drafts.ts";
import type { SimNode } from "../sim-node.ts";

type Reloaded = { readonly rows?: readonly ClusterKey[]; readonly key?: SigningKey; readonly announced?: readonly SignedBytes[] };

export interface RegionalParts {
  readonly clusterId: string;
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

const NOTHING: readonly SignedBytes[] = [];

type Telling = "exporters" | "summaryRefused" | "summaryUnsaid";

export class Regional {
  /** What people and the audit were told, in all lives of the node. */
  readonly told: Extract<NodeNotice, { readonly kind: Telling }>[] = [];
  readonly #parts: RegionalParts;
  /** What the settings and the key file say. */
  #rows: readonly ClusterKey[];
  #key: SigningKey | undefined;
  /** As the settings have them at the next start. */
  borders: readonly Border[];
  #announced = NOTHING;
  #keys = new KeyRegistry(KEY_BOUNDS);

  constructor(parts: RegionalParts) {
    this.#parts = parts;
    this.#rows = parts.rows;
    this.borders = parts.borders;
    this.#key = parts.key;
  }

  /** Other keys than before, as after a reload. */
  reload({ rows = this.#rows, key = this.#key, announced = this.#announced }: Reloaded, time: Time): void {
    this.#rows = rows;
    this.#key = key;
    this.#announced = announced;
    const own =
      key === undefined ? undefined : { cluster: this.#parts.clusterId, region: this.#parts.region, publicKey: key.publicKey.raw };
    const isNamed = own === undefined || rows.some(({ publicKey }) => Buffer.compare(publicKey, own.publicKey) === 0);
    this.#keys.configure(isNamed ? rows : [...rows, own], time);
  }

  settings(plain: Settings): Settings {
    const { summary, clusters } = this.#parts;
    const keys = this.#rows.map(({ cluster: clusterId, region, publicKey }) => {
      return { clusterId, region, publicKey: Buffer.from(publicKey).toString("base64") };
    });
    const rows = this.borders.map(({ clusterId, region, addresses, imports, exports, batchIntervalMs, bytesPerSecond }) => {
      const rules = { import: imports, export: exports, batchIntervalMs, bytesPerSecond };
      return { clusterId, region, addresses, ...rules, trust: { tokenFile: "border" }, keys: [] };
    });
    return {
      ...plain,
      fabric: { ...plain.fabric, borders: rows as unknown as Settings["fabric"]["borders"] },
      policy: { ...plain.policy, acceptFrom: clusters },
      summary: { ...plain.summary, keys, ...summary },
    };
  }

  seals(time: Time): SummaryKeySources {
    const { region } = this.#parts;
    const { borders } = this;
    const keys = new KeyRegistry(KEY_BOUNDS);
    const isImported = importRule(borders);
    this.#keys = keys;
    this.reload({}, time);
    return {
      keys,
      signer: this.#signer(),
      announcements: () => this.#announced,
      imports: (source, namespace) => keys.regionOf(source) === region || isImported(source, namespace),
      onAgain: () => {},
    };
  }

  /** With the key that the file has now. */
  #signer(): ClusterSigner | undefined {
    const key = () => this.#key;
    return (
      this.#key && {
        get keyId() {
          return key()?.keyId ?? "";
        },
        sign: (context, bytes) => key()?.sign(context, bytes) ?? new Uint8Array(),
      }
    );
  }

  exported(node: SimNode, draft: Draft): void {
    this.#parts.exported(node, draft);
  }
}
