/** Reads the keys of clusters: the signing key of this cluster, and the public keys in the settings. */

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

/** Cluster keys on a node that stores summaries. */
export interface NodeClusterKeys {
  readonly keys: KeyRegistry;
  /** Undefined on a node without the signing key of its cluster. The signer uses the last valid key of the file. */
  readonly signer: ClusterSigner | undefined;
  /** Returns the key announcements of this cluster. The list is the same object while it has not changed. */
  announcements(): readonly SignedBytes[];
  /** Lists all known keys, and whether this node signs with each of them. */
  listed(wallMs: number): readonly (ListedKey & { readonly signs: boolean })[];
  readonly component: NodeComponent;
}

/** Whether the settings use summaries. */
export function holdsSummaries({ summary, fabric }: Settings): boolean {
  return summary.signingKeyFile !== undefined || summary.keys.length > 0 || fabric.borders.length > 0;
}

/** If the key file or a row of keys is invalid, throws a message for the operator with one line per fault. */
export function openClusterKeys(settings: Settings, log: Log): NodeClusterKeys {
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
