/** Reads the keys of clusters: the one with which this cluster signs, and those that the settings name. */

import type { Settings } from "../../config/settings.ts";
import { equalBytes } from "../../lib/crypto.ts";
import type { Log } from "../../lib/log.io.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import { KEY_BOUNDS } from "../../signing/cluster-keys.ts";
import { openSigningKeyFile, type SigningKeyFile, type SigningKeys } from "../../signing/key-file.io.ts";
import { KeyRegistry, type ListedKey } from "../../signing/key-registry.ts";
import type { ClusterSigner, SignedBytes } from "../../signing/signer.ts";
import type { NodeComponent } from "../components.io.ts";
import { checkOwner, keyFaults, namedKeys } from "./key-faults.io.ts";

/** What a node that holds summaries knows of clusters. */
export interface NodeClusterKeys {
  readonly keys: KeyRegistry;
  /** Undefined at a node without the key of its cluster. It signs with the key that the file held last. */
  readonly signer: ClusterSigner | undefined;
  /** What the cluster announces of its keys. The same list while it is the same. */
  announcements(): readonly SignedBytes[];
  /** Every key that is known here, and whether this node signs with it. */
  listed(wallMs: number): readonly (ListedKey & { readonly signs: boolean })[];
  readonly component: NodeComponent;
}

/** Whether the settings have anything to do with summaries. */
export function holdsSummaries({ summary, fabric }: Settings): boolean {
  return summary.signingKeyFile !== undefined || summary.keys.length > 0 || fabric.borders.length > 0;
}

/** Throws with a message for the operator, a line for each fault, when the key file or a row of keys is not as it should be. */
export function openSeals(settings: Settings, log: Log): NodeClusterKeys {
  const { clusterId, region } = settings.node;
  const { signingKeyFile } = settings.summary;
  const faults = keyFaults(settings);
  if (faults.length > 0) throw new Error(faults.join("\n"));
  const { keys: named } = namedKeys(settings);
  const check = (read: SigningKeys) => checkOwner(read, settings);
  const file: SigningKeyFile | undefined = signingKeyFile === undefined ? undefined : openSigningKeyFile(signingKeyFile, log, check);
  const keys = new KeyRegistry(KEY_BOUNDS);
  const configure = () => {
    const own = file?.keys.key.publicKey.raw;
    const isNamed = own === undefined || named.some(({ publicKey }) => equalBytes(publicKey, own));
    keys.configure(isNamed ? named : [...named, { cluster: clusterId, region, publicKey: own }], now());
  };
  configure();
  const signer: ClusterSigner | undefined = file && {
    get keyId() {
      return file.keys.key.keyId;
    },
    sign: (context, bytes) => file.keys.key.sign(context, bytes),
  };
  const component: NodeComponent = {
    reload: () => {
      if (file?.reload() === true) configure();
    },
  };
  const isOwn = ({ cluster, keyId }: ListedKey) => cluster === clusterId && keyId === signer?.keyId;
  const listed = (wallMs: number) => keys.list(wallMs).map((key) => ({ ...key, signs: isOwn(key) }));
  return { keys, signer, announcements: () => file?.keys.announcements ?? NONE, listed, component };
}

const NONE: readonly SignedBytes[] = [];
