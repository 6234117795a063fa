/** Imports Kubernetes manifests, and loads the demo catalog. */
import { Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { METADATA_KEY } from "../../lib/bounds.ts";
import { carryOut, type EntryTransfer, perform } from "../entries/transfer.ts";
import type { Environment } from "../environment.ts";
import { readInput } from "../environment.ts";
import { CommandError, UsageError } from "../exit.ts";
import type { KubernetesOptions } from "../kubernetes/entries.ts";
import { type Manifest, readKubernetes } from "../kubernetes/manifests.ts";
import type { CommandOutput } from "../output.ts";
import type { VerbFunction } from "../table/verb.ts";

const MAX_MANIFEST_BYTES = 32 * 1024 * 1024;
const DEMO_FILE = "docs/examples/online-boutique.yaml";
const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;
const DOMAIN = /^[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*$/;
const IMPORTER = /^[A-Za-z0-9._:/@+-]{1,128}$/;

const DEFAULTS: Omit<KubernetesOptions, "importer"> = {
  namespacePrefix: "k8s",
  clusterDomain: "cluster.local",
  scope: Scope.ZONE,
  addresses: new Set(["endpoints"]),
};

export const importKubernetes: VerbFunction = async ({ environment, args, flags, out, client }) => {
  const [file = ""] = args;
  const addresses = flags.list("address");
  const options: KubernetesOptions = {
    namespacePrefix: flags.text("namespacePrefix") ?? DEFAULTS.namespacePrefix,
    importer: flags.text("importer") ?? "kubernetes",
    clusterDomain: flags.text("clusterDomain") ?? DEFAULTS.clusterDomain,
    scope: flags.enum("scope", Scope) || DEFAULTS.scope,
    addresses: addresses.length === 0 ? DEFAULTS.addresses : new Set(addresses),
  };
  if (!NAMESPACE.test(options.namespacePrefix))
    throw new UsageError(`invalid --namespace-prefix ${options.namespacePrefix}: expected a namespace such as k8s or east.k8s`);
  if (!IMPORTER.test(options.importer))
    throw new UsageError(`invalid --importer ${options.importer}: expected 1 to 128 characters of A-Z a-z 0-9 . _ : / @ + -`);
  if (!DOMAIN.test(options.clusterDomain))
    throw new UsageError(`invalid --cluster-domain ${options.clusterDomain}: expected a DNS name such as cluster.local`);
  const manifest = readKubernetes(await readInput(environment, file, MAX_MANIFEST_BYTES), options);
  const { entries, problems, ignored, notes } = manifest;
  for (const note of notes) out.note(note);
  const others = [...ignored].map(([kind, times]) => `${times} ${kind}`);
  if (others.length > 0) out.note(`ignored objects: ${others.join(", ")}`);
  if (entries.length === 0 && problems.length === 0) out.note(`${file} contains no Service that can be imported`);
  const { importer } = options;
  const isPruning = flags.isOn("prune") && mayPrune(manifest, { file, importer, mayBeEmpty: flags.isOn("allowEmpty"), out });
  const transfer: EntryTransfer = {
    file,
    entries,
    problems,
    namespaces: [{ namespacePrefix: options.namespacePrefix }],
    isPartial: flags.isOn("partial"),
    isDryRun: flags.isOn("dryRun"),
    // With --prune, entries that this importer registered may be removed.
    isPrunable: (entry) => isPruning && entry.metadata[METADATA_KEY.IMPORT] === importer,
    // This importer's entries already have a static lease.
    claimsUnchanged: false,
    facts: { importer, ignored: Object.fromEntries(ignored), notes },
  };
  return carryOut(transfer, { client, out });
};

interface PrunePlan {
  readonly file: string;
  readonly importer: string;
  readonly mayBeEmpty: boolean;
  readonly out: CommandOutput;
}

/** Whether entries that are missing from the input may be removed. Throws for an empty input, because a failed `kubectl` also produces no output. */
function mayPrune({ entries, problems }: Manifest, { file, importer, mayBeEmpty, out }: PrunePlan): boolean {
  if (problems.length > 0) {
    // An invalid document may describe any entry, so it is unknown which entries are gone.
    out.error("nothing was removed: --prune requires an input without problems");
    return false;
  }
  if (entries.length > 0 || mayBeEmpty) return true;
  throw new CommandError(
    `nothing was changed: ${file} contains no Service, so --prune would remove all entries of ${importer}; ` +
      "pass --allow-empty to allow this",
  );
}

/** Loads the demo catalog into the node that listens on `grpc`. */
export async function loadDemo(environment: Environment, grpc: string, out: CommandOutput): Promise<void> {
  const { entries, problems } = readKubernetes(await environment.readOwn(DEMO_FILE), { ...DEFAULTS, importer: "demo" });
  if (problems.length > 0) throw new CommandError(problems.map(({ line, message }) => `${DEMO_FILE}:${line}: ${message}`).join("\n"));
  const { openCalls } = await import("../../client/channel.io.ts");
  const client = await openCalls({ servers: [grpc] });
  try {
    const namespaces = [{ namespacePrefix: DEFAULTS.namespacePrefix }];
    const transfer = { file: DEMO_FILE, entries, namespaces, isPrunable: () => false, isDryRun: false, claimsUnchanged: false };
    const { changes } = await perform(transfer, client);
    out.note(`loaded the demo catalog: ${changes.length} entries from ${DEMO_FILE}`);
  } finally {
    client.close();
  }
}
