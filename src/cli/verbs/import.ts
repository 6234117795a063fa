/** The verb that imports Kubernetes manifests, and the loading of the demo catalog. */
import { Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { connect } from "../../client/channel.io.ts";
import { carryOut, perform, type Transfer } from "../entries/transfer.ts";
import type { Environment } from "../environment.ts";
import { readInput } from "../environment.ts";
import { CommandError, UsageError } from "../exit.ts";
import { ADDRESS_SOURCES, type AddressSource, IMPORT_KEY, type KubernetesOptions } from "../kubernetes/entries.ts";
import { readKubernetes } from "../kubernetes/manifests.ts";
import type { Output } from "../output.ts";
import type { Verb } from "../table/verb.ts";

const MAX_MANIFEST_BYTES = 32 * 1024 * 1024;
const DEMO_FILE = "docs/examples/online-boutique.yaml";
const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;
const DOMAIN = /^[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*$/;
const IMPORTER = /^[A-Za-z0-9._:/@+-]{1,128}$/;

export const importKubernetes: Verb = async ({ environment, args, flags, out, client }) => {
  const [file = ""] = args;
  const options: KubernetesOptions = {
    namespacePrefix: flags.text("namespacePrefix") ?? "k8s",
    importer: flags.text("importer") ?? "kubernetes",
    clusterDomain: flags.text("clusterDomain") ?? "cluster.local",
    scope: flags.enum("scope", Scope) || Scope.ZONE,
    addresses: addressesOf(flags.list("address")),
  };
  if (!NAMESPACE.test(options.namespacePrefix))
    throw new UsageError(`--namespace-prefix ${options.namespacePrefix}: not a namespace such as k8s or east.k8s`);
  if (!IMPORTER.test(options.importer)) throw new UsageError(`--importer ${options.importer}: not 1 to 128 of A-Z a-z 0-9 . _ : / @ + -`);
  if (!DOMAIN.test(options.clusterDomain)) throw new UsageError(`--cluster-domain ${options.clusterDomain}: not a DNS name`);
  const manifest = await readInput(environment, file, MAX_MANIFEST_BYTES);
  const transfer = transferOf({ file, manifest, options, out });
  const isPruning = flags.isOn("prune") && mayPrune(transfer, { importer: options.importer, mayBeEmpty: flags.isOn("allowEmpty"), out });
  return carryOut(
    { ...transfer, isPartial: flags.isOn("partial"), isDryRun: flags.isOn("dryRun"), isPrunable: prunable(isPruning, options) },
    { client, out },
  );
};

interface Pruning {
  readonly importer: string;
  readonly mayBeEmpty: boolean;
  readonly out: Output;
}

/** Whether entries that the input lacks may be removed. Throws for an empty input: a `kubectl` that failed also writes nothing. */
function mayPrune(
  { file, entries, problems }: Pick<Transfer, "file" | "entries" | "problems">,
  { importer, mayBeEmpty, out }: Pruning,
): boolean {
  if (problems.length > 0) {
    // A broken document may be about any entry, so no entry is known to be gone.
    out.error("nothing is removed: --prune needs an input without problems");
    return false;
  }
  if (entries.length > 0 || mayBeEmpty) return true;
  throw new CommandError(
    `nothing was changed: ${file} has nothing to register, so --prune would remove everything that ${importer} registered; ` +
      "pass --allow-empty to do that",
  );
}

function addressesOf(words: readonly string[]): ReadonlySet<AddressSource> {
  if (words.length === 0) return new Set(["endpoints"]);
  return new Set(
    words.map((word) => {
      const source = ADDRESS_SOURCES.find((each) => each === word);
      if (source === undefined) throw new UsageError(`--address ${word}: not one of ${ADDRESS_SOURCES.join(", ")}`);
      return source;
    }),
  );
}

/** With --prune, the entries that this importer registered may be removed. */
function prunable(isPruning: boolean, { importer }: KubernetesOptions): Transfer["isPrunable"] {
  return (entry) => isPruning && entry.metadata[IMPORT_KEY] === importer;
}

interface Import {
  readonly file: string;
  readonly manifest: string;
  readonly options: KubernetesOptions;
  readonly out: Output;
}

function transferOf({ file, manifest, options, out }: Import): Omit<Transfer, "isPartial" | "isDryRun" | "isPrunable"> {
  const { entries, problems, ignored, notes } = readKubernetes(manifest, options);
  for (const note of notes) out.note(note);
  const others = [...ignored].map(([kind, times]) => `${times} ${kind}`);
  if (others.length > 0) out.note(`ignored: ${others.join(", ")}`);
  if (entries.length === 0 && problems.length === 0) out.note(`${file} holds no Services`);
  return {
    file,
    entries,
    problems,
    namespaces: [{ namespacePrefix: options.namespacePrefix }],
    // Entries with this importer's name are under a static lease already.
    claimsUnchanged: false,
    facts: { importer: options.importer, ignored: Object.fromEntries(ignored), notes },
  };
}

/** Loads the demo catalog into the node that listens on `grpc`. */
export async function loadDemo(environment: Environment, grpc: string, out: Output): Promise<void> {
  const options = {
    namespacePrefix: "k8s",
    importer: "demo",
    clusterDomain: "cluster.local",
    scope: Scope.ZONE,
    addresses: addressesOf([]),
  };
  const { entries, problems } = readKubernetes(await environment.readOwn(DEMO_FILE), options);
  if (problems.length > 0) throw new CommandError(problems.map(({ line, message }) => `${DEMO_FILE}:${line}: ${message}`).join("\n"));
  const client = connect({ servers: [grpc] });
  try {
    const namespaces = [{ namespacePrefix: options.namespacePrefix }];
    const transfer = { file: DEMO_FILE, entries, namespaces, isPrunable: () => false, isDryRun: false, claimsUnchanged: false };
    const { changes } = await perform(transfer, client);
    out.note(`demo catalog of ${changes.length} entries from ${DEMO_FILE}`);
  } finally {
    client.close();
  }
}
