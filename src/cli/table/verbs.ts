/**
 * The VERBS table: every command with its arguments, flags, help and examples. Help, completion and the reference page are generated from it. Every
 * command loads this table, so flags that take longer to load are in `full.ts`.
 */

import { KIND_WORDS } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import { DEFAULT_TIMEOUT_MS } from "../../client/connect-options.ts";
import { GRPC_PORT } from "../../lib/addresses.ts";
import { durationText } from "../../lib/duration.ts";
import { AUDIT_VERBS } from "./audit.ts";
import { checkForms } from "./check-kinds.ts";
import { DNS_VERBS } from "./dns.ts";
import { IDENTITY_VERBS } from "./identity.ts";
import { MESH_VERBS } from "./mesh.ts";
import { POLICY_VERBS } from "./policy.ts";
import { RESOLVER_VERBS } from "./resolver.ts";
import { SHARD_VERBS } from "./shards.ts";
import { SUMMARY_VERBS } from "./summary.ts";
import { AS_OPERATOR, type FlagSpec, type VerbSpec } from "./verb.ts";

const SCOPE_WORDS = ["local", "zone", "region", "global"] as const;
const HEALTH_WORDS = ["healthy", "degraded", "critical", "maintenance", "orphaned"] as const;

/** The kinds that summaries cover: all kinds except nodes. */
const SUMMARISED_WORDS = KIND_WORDS.filter((word) => word !== "node");

const SCOPE_FLAG = { flags: "--scope <scope>", doc: "How far the entries are replicated (default zone).", choices: SCOPE_WORDS } as const;
const DRY_RUN = { flags: "--dry-run", doc: "Show what would change without changing anything." } as const;
const NAME_FLAGS: readonly FlagSpec[] = [
  { flags: "--namespace <namespace>", doc: "Namespace of the entry, such as svc.market." },
  { flags: "--name <name>", doc: "Name of the service, function, topic, queue, cache or node." },
  { flags: "--instance <id>", doc: "Id that distinguishes the entries of one name, such as web-1." },
];
const KIND_FLAG: FlagSpec = { flags: "--kind <kind>", doc: "Kind of the entry (default service).", choices: KIND_WORDS };
const FILTER_FLAGS: readonly FlagSpec[] = [
  { flags: "--namespace <namespace>", doc: "Only entries in exactly this namespace." },
  { flags: "--prefix <namespace>", doc: "Only entries in this namespace and in all namespaces below it." },
  {
    flags: "--kind <kind>",
    doc: "Only entries of this kind. Repeat the flag to accept several kinds.",
    isRepeatable: true,
    choices: KIND_WORDS,
  },
  {
    flags: "--scope <scope>",
    doc: "Search this node (local), its cluster (zone), its region (region) or all nodes (global) for entries whose scope is at least this wide.",
    choices: SCOPE_WORDS,
  },
  {
    flags: "--tag <tag>",
    doc: "Only entries with this tag. If the flag is repeated, an entry must have all of the values.",
    isRepeatable: true,
  },
  {
    flags: "--capability <capability>",
    doc: "Only entries with this capability. If the flag is repeated, an entry must have all of the values.",
    isRepeatable: true,
  },
  {
    flags: "--resource <resource>",
    doc: "Only entries with this resource. If the flag is repeated, an entry must have all of the values.",
    isRepeatable: true,
  },
  { flags: "--cluster-id <id>", doc: "Only entries of this cluster." },
  { flags: "--region <region>", doc: "Only entries of this region." },
  {
    flags: "--health <health>",
    doc: "Only entries with this health. Repeat the flag to accept several.",
    isRepeatable: true,
    choices: HEALTH_WORDS,
  },
  { flags: "--version-range <range>", doc: "Only functions whose version is in this npm range, such as ^1.2.0." },
];
const PAGE_FLAGS: readonly FlagSpec[] = [
  { flags: "--limit <count>", doc: "Maximum number of results (default all)." },
  { flags: "--page-token <token>", doc: "Continue after the page that returned this token.", mayBeEmpty: true },
];

const discovery = () => import("../verbs/discovery.ts");

/** Every verb. `full.ts` adds the flags of `serve` that correspond to settings. */
export const VERBS: readonly VerbSpec[] = [
  {
    path: "serve",
    isAlone: true,
    summary: "Run a node, or a resolver with --mode resolver.",
    flags: [
      { flags: "--config <file>", doc: "Settings file, .toml or .json. Without a file, settings come from flags and the environment." },
      {
        flags: "--demo",
        doc: "Load the demo catalog, an online shop with twelve services, before the node becomes ready. The demo catalog is loaded again at every start.",
      },
      {
        flags: "--join-token-file <file>",
        doc: "Join the cluster with the token in this file through the first address of --join, if the data directory contains no identity.",
      },
    ],
    examples: [
      ["serve", "run a node on 127.0.0.1 with its data in ./waymark-data"],
      [
        "serve --ephemeral --grpc-port 0 --http-port 0 --dns-port 0 -o json",
        "use free ports, and print them as one JSON line when the node is ready",
      ],
      ["serve --config node.toml --log-level debug", "read settings from a file and override one of them"],
    ],
    load: async () => (await import("../verbs/serve.ts")).serve,
  },
  {
    path: "apply",
    summary: "Register the entries in a file. The entries stay until they are unregistered.",
    flags: [
      { flags: "-f, --file <file>", doc: "YAML or JSON file with one or more entries; - reads standard input.", isRequired: true },
      DRY_RUN,
      { flags: "--partial", doc: "Register the valid entries even if the file also has invalid ones." },
    ],
    examples: [
      ["apply -f shop.yaml", "register all entries of shop.yaml, or report every problem and register none"],
      ["apply -f shop.yaml --dry-run", "show which entries would be created, updated or moved here from other nodes"],
    ],
    load: async () => (await import("../verbs/apply.ts")).apply,
  },
  {
    path: "import kubernetes",
    summary:
      "Register the Services of a Kubernetes manifest with their EndpointSlices or Endpoints. The entries stay until they are unregistered.",
    args: [{ name: "<file>", doc: "YAML documents, or the output of kubectl get -o json; - reads standard input." }],
    flags: [
      {
        flags: "--namespace-prefix <namespace>",
        doc: "Parent of the namespaces: Kubernetes namespace ns becomes <prefix>.ns (default k8s).",
      },
      {
        flags: "--importer <name>",
        doc: "Name of this import, recorded in each entry (default kubernetes). --prune removes only entries with this name.",
      },
      {
        flags: "--cluster-domain <domain>",
        doc: "DNS domain of the Kubernetes cluster, used for Services without endpoints in the input (default cluster.local).",
      },
      {
        flags: "--address <which>",
        doc: "Which addresses to register (default endpoints). Each kind of address becomes a separate entry.",
        isRepeatable: true,
        choices: ["endpoints", "cluster", "load-balancer"],
      },
      SCOPE_FLAG,
      DRY_RUN,
      {
        flags: "--prune",
        doc: "Also remove entries of this importer that are no longer in the input. The input must not have any problems.",
      },
      { flags: "--allow-empty", doc: "With --prune: accept an input with nothing to register, and remove all entries of this importer." },
      { flags: "--partial", doc: "Import the valid documents even if the manifest also has invalid ones." },
    ],
    examples: [
      ["import kubernetes shop.yaml --dry-run", "show what an import would change"],
      ["import kubernetes shop.yaml --prune", "make the entries of this importer match the manifest"],
      ["import kubernetes - < services.json", "import the output of kubectl get services,endpointslices -A -o json"],
      ["import kubernetes shop.yaml --address load-balancer", "register the addresses for clients outside the Kubernetes cluster"],
    ],
    load: async () => (await import("../verbs/import.ts")).importKubernetes,
  },
  {
    path: "register",
    summary: "Register one entry.",
    flags: [
      ...NAME_FLAGS.map((flag): FlagSpec => ({ ...flag, isRequired: true })),
      KIND_FLAG,
      {
        flags: "--target <target>",
        doc: "Address that clients connect to: host[:port][/protocol][,name=…][,weight=…][,priority=…].",
        isRepeatable: true,
      },
      {
        flags: "--check <check>",
        doc: `Health check that the node runs: ${checkForms()}, then options such as ,interval=10s,timeout=2s,target=NAME (see docs/guides/health.md).`,
        isRepeatable: true,
      },
      { flags: "--tag <tag>", doc: "Tag that queries can filter by, such as canary or app:web.", isRepeatable: true },
      { flags: "--capability <capability>", doc: "Capability that queries can filter by, such as gpu.", isRepeatable: true },
      { flags: "--resource <resource>", doc: "Resource that the entry offers, which queries can filter by.", isRepeatable: true },
      { flags: "--metadata <key=value>", doc: "Free-form key-value pair that is returned with the entry.", isRepeatable: true },
      { flags: "--alias <name>", doc: "Additional DNS name of the entry.", isRepeatable: true },
      SCOPE_FLAG,
      { flags: "--zone <zone>", doc: "Zone of the entry (default the zone of the node)." },
      {
        flags: "--health <health>",
        doc: "Health to report for the entry (default healthy).",
        choices: HEALTH_WORDS.filter((word) => word !== "orphaned"),
      },
      { flags: "--version-label <version>", doc: "Semantic version of a function, such as 1.4.2." },
      {
        flags: "--ttl <duration>",
        doc: "Lifetime of the lease unless it is renewed, such as 30s (default: a static lease, which never expires).",
      },
      { flags: "--keep", doc: "Keep running, renew the lease, and unregister on interrupt." },
    ],
    examples: [
      [
        "register --namespace svc.market --name web --instance web-1 --target 10.0.0.1:8080/http",
        "register an instance that stays until it is unregistered",
      ],
      [
        "register --namespace svc.market --name web --instance web-2 --target 10.0.0.2:8080/http,weight=5 --ttl 30s --keep",
        "register an instance for as long as this command runs",
      ],
      [
        "register --namespace svc.market --name web --instance web-3 --target 10.0.0.3:8080/http --check http:/healthz,interval=10s,timeout=2s",
        "register an instance, and let the node check its /healthz every 10 s",
      ],
    ],
    load: async () => (await import("../verbs/register.ts")).register,
  },
  {
    path: "unregister",
    summary: "Remove one entry, or all entries of a lease.",
    flags: [
      ...NAME_FLAGS.map((flag): FlagSpec => ({ ...flag, doc: `${flag.doc} Required unless --lease is set.` })),
      KIND_FLAG,
      { flags: "--lease <id>", doc: "End this lease and remove all of its entries." },
    ],
    examples: [
      ["unregister --namespace svc.market --name web --instance web-1", "remove one instance"],
      ["unregister --lease LEASE_ID", "remove everything registered under a lease"],
    ],
    load: async () => (await import("../verbs/register.ts")).unregister,
  },
  {
    path: "discovery maintenance",
    summary: "Start or end maintenance of entries. Clients do not select entries that are in maintenance.",
    args: [
      { name: "<state>", doc: "on starts maintenance, off ends it.", choices: ["on", "off"] },
      { name: "[keys...]", doc: "Entries, written namespace/name/instance." },
    ],
    flags: [
      ...NAME_FLAGS,
      { flags: "--kind <kind>", doc: "Kind of the entries (default service).", choices: KIND_WORDS },
      { flags: "--node <id>", doc: "Select all entries that are currently registered on this node." },
      { flags: "--reason <text>", doc: "Reason, shown with the entries. At most 256 bytes." },
      { flags: "--until <time>", doc: "End of the maintenance: a time, or a duration from now (default: until it is turned off)." },
    ],
    examples: [
      ["discovery maintenance on svc.market/web/web-1 --reason 'new disks' --until 2h", "put one instance into maintenance for two hours"],
      ["discovery maintenance off svc.market/web/web-1 svc.market/web/web-2", "end the maintenance of two instances"],
      ["discovery maintenance on --node node-3 --reason 'kernel update'", "put all entries of one node into maintenance"],
    ],
    load: async () => (await import("../verbs/maintenance.ts")).maintenance,
  },
  {
    path: "discovery query",
    summary: "List entries of the catalog.",
    args: [{ name: "[names...]", doc: "Only entries with one of these names." }],
    flags: [
      ...FILTER_FLAGS,
      { flags: "--subject <subject>", doc: "Only topics whose pattern matches this subject." },
      { flags: "--alias <name>", doc: "Only entries with this alias. Repeat the flag to accept several.", isRepeatable: true },
      {
        flags: "--host <name>",
        doc: "Only entries with a DNS name that is this name or below it. Repeat the flag to accept several.",
        isRepeatable: true,
      },
      ...PAGE_FLAGS,
      { flags: "--max-staleness <duration>", doc: "Fail if the server's data may be older than this, such as 5s." },
      {
        flags: "--max-staleness-strict",
        doc: "Fail while a node that may still accept writes is unreachable. Does not need --max-staleness.",
      },
      { flags: "--explain", doc: "Show why each entry was included or left out." },
      AS_OPERATOR,
    ],
    examples: [
      ["discovery query --prefix k8s", "list all entries in and below the namespace k8s"],
      ["discovery query cartservice --namespace k8s.default -o json", "list the instances of one service as JSON"],
      ["discovery query --namespace k8s.default --tag app:cartservice --health healthy", "list the healthy entries with a tag"],
    ],
    load: async () => (await discovery()).query,
  },
  {
    path: "discovery watch",
    summary: "Follow the catalog: print the current entries, then every change.",
    args: [{ name: "[names...]", doc: "Only entries with one of these names." }],
    flags: [
      ...FILTER_FLAGS,
      { flags: "--cursor <cursor>", doc: "Resume after this cursor instead of starting with the current entries.", mayBeEmpty: true },
      { flags: "--names-only", doc: "Show only the keys of entries." },
      { flags: "--until-synced", doc: "Stop after the current entries." },
      { flags: "--count <count>", doc: "Stop after this many changes." },
      AS_OPERATOR,
    ],
    examples: [
      ["discovery watch --prefix k8s", "follow all entries below k8s, and continue when the server restarts"],
      [
        "discovery watch --namespace svc.market -o json",
        "print one JSON object per line; a synced event, at least every 10 s, carries the cursor to resume from",
      ],
    ],
    load: async () => (await discovery()).watch,
  },
  {
    path: "discovery summary",
    summary: "Show the service summaries that clusters in this and other regions publish.",
    args: [{ name: "[service]", doc: "Only summaries of this service." }],
    flags: [
      { flags: "--namespace <namespace>", doc: "Only summaries of exactly this namespace." },
      { flags: "--prefix <namespace>", doc: "Only summaries of this namespace and of all namespaces below it." },
      {
        flags: "--kind <kind>",
        doc: "Only summaries of this kind. Repeat the flag to accept several kinds.",
        isRepeatable: true,
        choices: SUMMARISED_WORDS,
      },
      { flags: "--scope <scope>", doc: "Only summaries with at least this scope.", choices: SCOPE_WORDS },
      { flags: "--region <region>", doc: "Only clusters in this region. Repeat the flag to accept several.", isRepeatable: true },
      { flags: "--ingress", doc: "Also show the addresses at which clusters accept calls from other regions." },
      { flags: "--by-region", doc: "Show totals per region: one line per service and region." },
      ...PAGE_FLAGS,
      { flags: "--watch", doc: "Print the current summaries, then every change." },
      { flags: "--cursor <cursor>", doc: "With --watch: resume after this cursor.", mayBeEmpty: true },
      { flags: "--until-synced", doc: "With --watch: stop after the current summaries." },
      { flags: "--count <count>", doc: "With --watch: stop after this many changes." },
    ],
    examples: [
      ["discovery summary --prefix svc --region us", "show what the clusters of a region export"],
      [
        "discovery summary cart --namespace svc.shop --ingress",
        "show which clusters have a service, and the addresses at which they accept calls",
      ],
      ["discovery summary --watch -o json", "follow all summaries, one JSON object per line"],
    ],
    load: async () => (await import("../verbs/summary.ts")).summary,
  },
  {
    path: "discovery resolve",
    summary: "Choose an endpoint of a service. If this cluster has none, show a cluster that has the service.",
    args: [{ name: "<name>", doc: "Name of the service." }],
    flags: [
      { flags: "--namespace <namespace>", doc: "Namespace of the service.", isRequired: true },
      { flags: "--kind <kind>", doc: "Kind of the name (default service).", choices: KIND_WORDS },
      {
        flags: "--version-range <range>",
        doc: "Only functions whose version is in this npm range, such as ^1.2.0. Requires --kind function.",
      },
      { flags: "--prefer-region <region>", doc: "Prefer endpoints in this region." },
      { flags: "--prefer-zone <zone>", doc: "Prefer endpoints in this zone." },
      {
        flags: "--policy <policy>",
        doc: "Policy for choosing among the endpoints (default load-aware).",
        choices: ["load-aware", "round-robin", "random", "hash"],
      },
      { flags: "--hash-key <text>", doc: "With --policy hash: requests with equal keys get the same instance." },
      { flags: "--limit <count>", doc: "Maximum number of alternatives (default 4)." },
      { flags: "--explain", doc: "Explain the rank of each candidate." },
      AS_OPERATOR,
    ],
    examples: [
      [
        "discovery resolve cartservice --namespace k8s.default",
        "choose an endpoint and its alternatives, or get a redirect to another cluster",
      ],
      [
        "discovery resolve cartservice --namespace k8s.default --policy hash --hash-key user-7",
        "choose the same endpoint for the same user each time",
      ],
    ],
    load: async () => (await discovery()).resolve,
  },
  {
    path: "discovery cluster-map",
    summary: "List the nodes in the catalog, and the ingress addresses of other regions.",
    flags: [
      {
        flags: "--scope <scope>",
        doc: "Which nodes to list. local: only this node; zone: nodes of its cluster; region: nodes of its region; global: all nodes (default).",
        choices: SCOPE_WORDS,
      },
      { flags: "--namespace <namespace>", doc: "Only nodes with entries in this namespace or below it." },
      {
        flags: "--capability <capability>",
        doc: "Only nodes with this capability. If the flag is repeated, a node must have all of the values.",
        isRepeatable: true,
      },
      {
        flags: "--resource <resource>",
        doc: "Only nodes with this resource. If the flag is repeated, a node must have all of the values.",
        isRepeatable: true,
      },
      ...PAGE_FLAGS,
    ],
    examples: [["discovery cluster-map -o wide", "list every node with its addresses"]],
    load: async () => (await discovery()).clusterMap,
  },
  {
    path: "discovery peers",
    summary: "List the other nodes as the server sees them, and the ingress addresses of other regions.",
    flags: [
      {
        flags: "--scope <scope>",
        doc: "Which nodes to list (default: all). local: none, because a server does not list itself; zone: nodes of the same cluster; region: nodes of other clusters in this region; global: nodes of other regions.",
        choices: SCOPE_WORDS,
      },
      { flags: "--region <region>", doc: "Only nodes of this region." },
      ...PAGE_FLAGS,
    ],
    examples: [["discovery peers", "list the other nodes and whether they are alive"]],
    load: async () => (await discovery()).peers,
  },
  {
    path: "discovery status",
    summary: "Show information about the server or about a namespace.",
    args: [{ name: "[namespace]", doc: "Namespace to show." }],
    examples: [
      ["discovery status", "show the version, identity, listeners and revision of the server"],
      ["discovery status k8s.default", "show the policy and entries of a namespace"],
    ],
    load: async () => (await discovery()).status,
  },
  ...POLICY_VERBS,
  ...AUDIT_VERBS,
  ...MESH_VERBS,
  ...IDENTITY_VERBS,
  ...SHARD_VERBS,
  ...SUMMARY_VERBS,
  ...RESOLVER_VERBS,
  ...DNS_VERBS,
  {
    path: "store copy",
    isAlone: true,
    summary: "Copy the policy and the cluster id of a stopped node into an empty prefix of etcd, with a higher epoch. Needs no server.",
    flags: [
      { flags: "--config <file>", doc: "Settings file of the node, with store.kind = etcd." },
      { flags: "--to <store>", doc: "Store to copy to.", choices: ["etcd"], isRequired: true },
    ],
    examples: [["store copy --config node.toml --to etcd", "move from one node with its own store to several nodes that share etcd"]],
    load: async () => (await import("../verbs/store.ts")).copy,
  },
  {
    path: "config validate",
    isAlone: true,
    summary: "Check a settings file: each value, settings that contradict each other, and the files that it refers to.",
    args: [{ name: "[file]", doc: "Settings file, .toml or .json." }],
    flags: [{ flags: "--config <file>", doc: "Settings file, given in the same way as for serve." }],
    examples: [["config validate node.toml", "exit with code 0 if the file is valid"]],
    load: async () => (await import("../verbs/config.ts")).validate,
  },
  {
    path: "config show",
    isAlone: true,
    summary: "Print the effective settings and where each value comes from. Secrets are masked.",
    flags: [{ flags: "--config <file>", doc: "Settings file, .toml or .json." }],
    examples: [["config show --config node.toml", "combine the file, the environment and the defaults"]],
    load: async () => (await import("../verbs/config.ts")).show,
  },
  {
    path: "help",
    isAlone: true,
    summary: "Show help for a command.",
    args: [{ name: "[command...]", doc: "Command, such as discovery query." }],
    examples: [["help discovery query", "the same as discovery query --help"]],
    load: async () => (await import("../verbs/about.ts")).help,
  },
  {
    path: "version",
    isAlone: true,
    summary: "Print the version of this program.",
    examples: [["version", "print the version"]],
    load: async () => (await import("../verbs/about.ts")).version,
  },
  {
    path: "completion",
    isAlone: true,
    summary: "Print a completion script for a shell.",
    args: [{ name: "<shell>", doc: "Shell of the script.", choices: ["bash", "zsh", "fish"] }],
    examples: [
      ["completion bash > ~/.local/share/bash-completion/completions/waymark", "install completion for bash"],
      ["completion fish > ~/.config/fish/completions/waymark.fish", "install completion for fish"],
    ],
    load: async () => (await import("../verbs/about.ts")).completion,
  },
];

/** Flags that every verb accepts. */
export const GLOBAL_FLAGS: readonly FlagSpec[] = [
  {
    flags: "--server <host:port>",
    doc: `Server address, or several separated by commas (WAYMARK_SERVER; default 127.0.0.1:${GRPC_PORT}).`,
  },
  { flags: "--token <token>", doc: "Bearer token that authenticates this client (WAYMARK_TOKEN)." },
  { flags: "--tls", doc: "Use TLS and trust the system's CAs (WAYMARK_TLS=1)." },
  { flags: "--ca <file>", doc: "PEM file with the CAs to trust; turns TLS on (WAYMARK_CA)." },
  { flags: "--cert <file>", doc: "PEM file with the certificate of this client (WAYMARK_CERT)." },
  { flags: "--key <file>", doc: "PEM file with the private key for --cert (WAYMARK_KEY)." },
  { flags: "--tenant <id>", doc: "Tenant whose view of the catalog to read, if the server permits it (WAYMARK_TENANT)." },
  { flags: "-o, --output <format>", doc: "Output format (default table).", choices: ["table", "wide", "json", "yaml"] },
  { flags: "--timeout <duration>", doc: `Time limit of a request (default ${durationText(DEFAULT_TIMEOUT_MS)}).` },
  { flags: "--no-color", doc: "Do not use colour, even on a terminal (NO_COLOR)." },
  { flags: "--quiet", doc: "Print only errors on stderr, not notes." },
];

/** Description of each group of verbs, indexed by path. */
export const GROUPS: Readonly<Record<string, string>> = {
  import: "Import entries from other systems.",
  discovery: "Find and follow entries.",
  namespace: "Manage who may see and export namespaces.",
  "namespace policy": "Check, apply, roll back and explain the policy set.",
  audit: "Read and verify the audit log.",
  mesh: "Show the nodes of the mesh and how they see each other.",
  "mesh join-policy": "Show and replace the policy that decides which programs can join.",
  "mesh shards": "Show the shards of namespaces, and move them.",
  "mesh token": "Make, list and revoke the tokens with which machines join.",
  "auth token": "Make, list and revoke the tokens of callers.",
  auth: "Manage the access of callers.",
  ca: "Make the authority of a cluster, and show its issuers.",
  cert: "List and issue certificates.",
  "mesh config": "Show and compare the settings of running nodes.",
  "mesh peers": "Show the members of the mesh.",
  "mesh leaders": "Show the leaders of the cluster, and replace them.",
  summary: "Show the signed service summaries that regions exchange.",
  "summary keys": "List and announce the signing keys of clusters.",
  store: "Move the control state of a node.",
  resolver: "Show and control the cache of a resolver.",
  report: "Report on the whole catalog.",
  dns: "Register DNS names, and query the DNS gateway.",
  config: "Check and show settings.",
};
