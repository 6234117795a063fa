/**
 * The VERBS table: every command with its arguments, flags, help and examples. Help, completion and the reference page come from it. Every
 * command line loads it, so the flags that take longer to load are in `full.ts`.
 */

import { KIND_WORDS } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import { DEFAULT_TIMEOUT_MS } from "../../client/connect-options.ts";
import { GRPC_PORT } from "../../lib/addresses.ts";
import { durationText } from "../../lib/duration.ts";
import { AUDIT_VERBS } from "./audit.ts";
import { checkForms } from "./check-kinds.ts";
import { DNS_VERBS } from "./dns.ts";
import { MESH_VERBS } from "./mesh.ts";
import { POLICY_VERBS } from "./policy.ts";
import { RESOLVER_VERBS } from "./resolver.ts";
import { SUMMARY_VERBS } from "./summary.ts";
import type { FlagSpec, VerbSpec } from "./verb.ts";

const SCOPE_WORDS = ["local", "zone", "region", "global"] as const;
const HEALTH_WORDS = ["healthy", "degraded", "critical", "maintenance", "orphaned"] as const;

/** Nodes have no summaries. */
const SUMMARISED_WORDS = KIND_WORDS.filter((word) => word !== "node");

const SCOPE_FLAG = { flags: "--scope <scope>", doc: "How far the entries may travel (default zone).", choices: SCOPE_WORDS } as const;
const DRY_RUN = { flags: "--dry-run", doc: "Show what would change, and change nothing." } as const;
const NAME_FLAGS: readonly FlagSpec[] = [
  { flags: "--namespace <namespace>", doc: "Namespace of the entry." },
  { flags: "--name <name>", doc: "Name of the entry." },
  { flags: "--instance <id>", doc: "Instance id." },
];
const KIND_FLAG: FlagSpec = { flags: "--kind <kind>", doc: "Kind (default service).", choices: KIND_WORDS };
const FILTER_FLAGS: readonly FlagSpec[] = [
  { flags: "--namespace <namespace>", doc: "Exactly this namespace." },
  { flags: "--prefix <namespace>", doc: "This namespace and all below it." },
  { flags: "--kind <kind>", doc: "Any of these kinds.", isRepeatable: true, choices: KIND_WORDS },
  { flags: "--scope <scope>", doc: "Entries of at least this scope, from within it.", choices: SCOPE_WORDS },
  { flags: "--tag <tag>", doc: "All of these tags.", isRepeatable: true },
  { flags: "--capability <capability>", doc: "All of these capabilities.", isRepeatable: true },
  { flags: "--resource <resource>", doc: "All of these resources.", isRepeatable: true },
  { flags: "--cluster-id <id>", doc: "Only this cluster." },
  { flags: "--region <region>", doc: "Only this region." },
  { flags: "--health <health>", doc: "Any of these health states.", isRepeatable: true, choices: HEALTH_WORDS },
  { flags: "--version-range <range>", doc: "Functions whose version is in this range, such as ^1.2.0." },
];
const PAGE_FLAGS: readonly FlagSpec[] = [
  { flags: "--limit <count>", doc: "At most this many (default all)." },
  { flags: "--page-token <token>", doc: "The page after the one that gave this token.", mayBeEmpty: true },
];

const discovery = () => import("../verbs/discovery.ts");

/** Every verb. `full.ts` adds the flags of `serve` that are settings. */
export const VERBS: readonly VerbSpec[] = [
  {
    path: "serve",
    isAlone: true,
    summary: "Run a node, or with --mode resolver a resolver.",
    flags: [
      { flags: "--config <file>", doc: "Settings file, .toml or .json." },
      {
        flags: "--demo",
        doc: "Load the demo catalog, an online shop of twelve services, before the node is ready. Each start loads all of it again.",
      },
    ],
    examples: [
      ["serve", "a node on 127.0.0.1 that keeps its data in ./waymark-data"],
      [
        "serve --ephemeral --grpc-port 0 --http-port 0 --dns-port 0 -o json",
        "any free ports; one line on stdout names them when the node is ready",
      ],
      ["serve --config node.toml --log-level debug", "settings from a file, one of them overridden"],
    ],
    load: async () => (await import("../verbs/serve.ts")).serve,
  },
  {
    path: "apply",
    summary: "Register the entries of a file, under a static lease.",
    flags: [
      { flags: "-f, --file <file>", doc: "YAML or JSON with one or many entries; - reads standard input.", isRequired: true },
      DRY_RUN,
      { flags: "--partial", doc: "Apply the valid entries of a file that also has invalid ones." },
    ],
    examples: [
      ["apply -f shop.yaml", "register everything in shop.yaml, or report every problem in it"],
      ["apply -f shop.yaml --dry-run", "show what would be created, updated and moved from other nodes"],
    ],
    load: async () => (await import("../verbs/apply.ts")).apply,
  },
  {
    path: "import kubernetes",
    summary: "Register the Services of a manifest with their EndpointSlices or Endpoints, under a static lease.",
    args: [{ name: "<file>", doc: "YAML documents or the JSON of kubectl get -o json; - reads standard input." }],
    flags: [
      { flags: "--namespace-prefix <namespace>", doc: "Kubernetes namespace ns becomes <prefix>.ns (default k8s)." },
      { flags: "--importer <name>", doc: "Owner of the entries (default kubernetes). --prune removes only entries of this owner." },
      {
        flags: "--cluster-domain <domain>",
        doc: "DNS domain of Services without endpoints in the input (default cluster.local).",
      },
      {
        flags: "--address <which>",
        doc: "Addresses that become targets (default endpoints). Each kind that a Service has becomes its own entry.",
        isRepeatable: true,
        choices: ["endpoints", "cluster", "load-balancer"],
      },
      SCOPE_FLAG,
      DRY_RUN,
      { flags: "--prune", doc: "Also remove entries of this importer that the input no longer has. The input must have no problems." },
      { flags: "--allow-empty", doc: "With --prune: an input with nothing to register removes all entries of this importer." },
      { flags: "--partial", doc: "Import the valid documents of a manifest that also has broken ones." },
    ],
    examples: [
      ["import kubernetes shop.yaml --dry-run", "show what an import would change"],
      ["import kubernetes shop.yaml --prune", "make the entries of this importer the same as the manifest"],
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
        doc: "host[:port][/protocol][,name=…][,weight=…][,priority=…].",
        isRepeatable: true,
      },
      {
        flags: "--check <check>",
        doc: `Check that the node runs: ${checkForms()}, then options such as ,interval=10s,timeout=2s,target=NAME (see the guide on health).`,
        isRepeatable: true,
      },
      { flags: "--tag <tag>", doc: "Tag.", isRepeatable: true },
      { flags: "--capability <capability>", doc: "Capability.", isRepeatable: true },
      { flags: "--resource <resource>", doc: "Resource.", isRepeatable: true },
      { flags: "--metadata <key=value>", doc: "Metadata.", isRepeatable: true },
      { flags: "--alias <name>", doc: "Other DNS name.", isRepeatable: true },
      SCOPE_FLAG,
      { flags: "--zone <zone>", doc: "Zone inside the region (default the node's)." },
      { flags: "--health <health>", doc: "Health (default healthy).", choices: HEALTH_WORDS.filter((word) => word !== "orphaned") },
      { flags: "--version-label <version>", doc: "Semantic version of a function." },
      { flags: "--ttl <duration>", doc: "Ttl of a lease that expires unless renewed (default a static lease, which never expires)." },
      { flags: "--keep", doc: "Keep running: renew the lease, and unregister when interrupted." },
    ],
    examples: [
      [
        "register --namespace svc.market --name web --instance web-1 --target 10.0.0.1:8080/http",
        "an instance that stays until it is unregistered",
      ],
      [
        "register --namespace svc.market --name web --instance web-2 --target 10.0.0.2:8080/http,weight=5 --ttl 30s --keep",
        "an instance that lives as long as this command",
      ],
      [
        "register --namespace svc.market --name web --instance web-3 --target 10.0.0.3:8080/http --check http:/healthz,interval=10s,timeout=2s",
        "an instance that its node asks for /healthz every 10 s",
      ],
    ],
    load: async () => (await import("../verbs/register.ts")).register,
  },
  {
    path: "unregister",
    summary: "Remove one entry, or all entries of a lease.",
    flags: [...NAME_FLAGS, KIND_FLAG, { flags: "--lease <id>", doc: "End this lease and remove all its entries." }],
    examples: [
      ["unregister --namespace svc.market --name web --instance web-1", "remove one instance"],
      ["unregister --lease LEASE_ID", "remove everything registered under a lease"],
    ],
    load: async () => (await import("../verbs/register.ts")).unregister,
  },
  {
    path: "discovery maintenance",
    summary: "Order or end the maintenance of entries: nobody chooses them while it lasts.",
    args: [
      { name: "<state>", doc: "on or off.", choices: ["on", "off"] },
      { name: "[keys...]", doc: "Entries, as namespace/name/instance." },
    ],
    flags: [
      ...NAME_FLAGS,
      { flags: "--kind <kind>", doc: "Kind of the entries (default service).", choices: KIND_WORDS },
      { flags: "--node <id>", doc: "All entries that are registered at this node now." },
      { flags: "--reason <text>", doc: "Why, for readers of the entries. At most 256 bytes." },
      { flags: "--until <time>", doc: "When it ends by itself: a time, or a duration from now (default when it is ended)." },
    ],
    examples: [
      ["discovery maintenance on svc.market/web/web-1 --reason 'new disks' --until 2h", "one instance, for two hours"],
      ["discovery maintenance off svc.market/web/web-1 svc.market/web/web-2", "end the maintenance of two instances"],
      ["discovery maintenance on --node node-3 --reason 'kernel update'", "everything that is registered at one node"],
    ],
    load: async () => (await import("../verbs/maintenance.ts")).maintenance,
  },
  {
    path: "discovery query",
    summary: "List entries of the catalog.",
    args: [{ name: "[names...]", doc: "Any of these names." }],
    flags: [
      ...FILTER_FLAGS,
      { flags: "--subject <subject>", doc: "Topics with a pattern that matches this subject." },
      { flags: "--alias <name>", doc: "Any of these aliases.", isRepeatable: true },
      { flags: "--host <name>", doc: "Entries with a name in DNS at or below any of these.", isRepeatable: true },
      ...PAGE_FLAGS,
      { flags: "--max-staleness <duration>", doc: "Fail instead of answering from older data." },
      { flags: "--max-staleness-strict", doc: "Also fail while a node that may still accept writes is unreachable." },
      { flags: "--explain", doc: "Show for each considered entry why it was kept or dropped." },
    ],
    examples: [
      ["discovery query --prefix k8s", "everything below the namespace k8s"],
      ["discovery query cartservice --namespace k8s.default -o json", "the instances of one service, for a program"],
      ["discovery query --namespace k8s.default --tag app:cartservice --health healthy", "by tag and health"],
    ],
    load: async () => (await discovery()).query,
  },
  {
    path: "discovery watch",
    summary: "Follow the catalog: the entries that are there now, then every change.",
    args: [{ name: "[names...]", doc: "Any of these names." }],
    flags: [
      ...FILTER_FLAGS,
      { flags: "--cursor <cursor>", doc: "Resume after this cursor instead of listing the entries that are there.", mayBeEmpty: true },
      { flags: "--names-only", doc: "Keys without the rest of the entries." },
      { flags: "--until-synced", doc: "Stop when all entries that are there were shown." },
      { flags: "--count <count>", doc: "Stop after this many changes." },
    ],
    examples: [
      ["discovery watch --prefix k8s", "follow a part of the catalog, through restarts of the server"],
      [
        "discovery watch --namespace svc.market -o json",
        "one JSON object a line; a synced event, at least every 10 s, has the cursor to resume from",
      ],
    ],
    load: async () => (await discovery()).watch,
  },
  {
    path: "discovery summary",
    summary: "What clusters of this and of other regions say of their services, in place of entries.",
    args: [{ name: "[service]", doc: "Only this service." }],
    flags: [
      { flags: "--namespace <namespace>", doc: "Exactly this namespace." },
      { flags: "--prefix <namespace>", doc: "This namespace and all below it." },
      { flags: "--kind <kind>", doc: "Any of these kinds.", isRepeatable: true, choices: SUMMARISED_WORDS },
      { flags: "--scope <scope>", doc: "Summaries that may be shown at least this wide.", choices: SCOPE_WORDS },
      { flags: "--region <region>", doc: "Of clusters in any of these regions.", isRepeatable: true },
      { flags: "--ingress", doc: "Also where the clusters take calls." },
      { flags: "--by-region", doc: "One line for a service and region, with the sum of its clusters." },
      ...PAGE_FLAGS,
      { flags: "--watch", doc: "Follow the summaries: those that are there now, then every change." },
      { flags: "--cursor <cursor>", doc: "With --watch: resume after this cursor.", mayBeEmpty: true },
      { flags: "--until-synced", doc: "With --watch: stop when all summaries that are there were shown." },
      { flags: "--count <count>", doc: "With --watch: stop after this many changes." },
    ],
    examples: [
      ["discovery summary --prefix svc --region us", "what the clusters of a region export"],
      ["discovery summary cart --namespace svc.shop --ingress", "which clusters have a service, and where they take calls"],
      ["discovery summary --watch -o json", "follow all of it, one JSON object a line"],
    ],
    load: async () => (await import("../verbs/summary.ts")).summary,
  },
  {
    path: "discovery resolve",
    summary: "Pick one endpoint of a service, or name the cluster that has it when nothing can be chosen here.",
    args: [{ name: "<name>", doc: "Name of the service." }],
    flags: [
      { flags: "--namespace <namespace>", doc: "Its namespace.", isRequired: true },
      { flags: "--kind <kind>", doc: "Kind (default service).", choices: KIND_WORDS },
      { flags: "--version-range <range>", doc: "Function versions accepted, such as ^1.2.0." },
      { flags: "--prefer-region <region>", doc: "Prefer endpoints there." },
      { flags: "--prefer-zone <zone>", doc: "Prefer endpoints there." },
      { flags: "--policy <policy>", doc: "How to choose (default load-aware).", choices: ["load-aware", "round-robin", "random", "hash"] },
      { flags: "--hash-key <text>", doc: "With --policy hash: equal keys get the same instance." },
      { flags: "--limit <count>", doc: "Alternatives wanted (default 4)." },
      { flags: "--explain", doc: "Show for each candidate the reason of its rank." },
    ],
    examples: [
      ["discovery resolve cartservice --namespace k8s.default", "one endpoint, and the next best; or a redirect to another cluster"],
      ["discovery resolve cartservice --namespace k8s.default --policy hash --hash-key user-7", "the same endpoint for the same user"],
    ],
    load: async () => (await discovery()).resolve,
  },
  {
    path: "discovery cluster-map",
    summary: "The nodes of the fabric, as the catalog has them, and the ingress of other regions.",
    flags: [
      { flags: "--scope <scope>", doc: "This node, its cluster, its region, or all.", choices: SCOPE_WORDS },
      { flags: "--namespace <namespace>", doc: "Only nodes with entries in or below it." },
      { flags: "--capability <capability>", doc: "All of these capabilities.", isRepeatable: true },
      { flags: "--resource <resource>", doc: "All of these resources.", isRepeatable: true },
      ...PAGE_FLAGS,
    ],
    examples: [["discovery cluster-map -o wide", "every node with its addresses"]],
    load: async () => (await discovery()).clusterMap,
  },
  {
    path: "discovery peers",
    summary: "The other nodes, as the serving node sees them, and the ingress of other regions.",
    flags: [
      { flags: "--scope <scope>", doc: "Relation to the serving node.", choices: SCOPE_WORDS },
      { flags: "--region <region>", doc: "Only this region." },
      ...PAGE_FLAGS,
    ],
    examples: [["discovery peers", "the other nodes, and which are alive"]],
    load: async () => (await discovery()).peers,
  },
  {
    path: "discovery status",
    summary: "Facts about a server, or about a namespace.",
    args: [{ name: "[namespace]", doc: "Namespace to ask about." }],
    examples: [
      ["discovery status", "version, identity, listeners and revision of the server"],
      ["discovery status k8s.default", "policy and entries of a namespace"],
    ],
    load: async () => (await discovery()).status,
  },
  ...POLICY_VERBS,
  ...AUDIT_VERBS,
  ...MESH_VERBS,
  ...SUMMARY_VERBS,
  ...RESOLVER_VERBS,
  ...DNS_VERBS,
  ...configVerbs("config"),
  ...configVerbs("mesh config"),
  {
    path: "help",
    isAlone: true,
    summary: "Help of a command.",
    args: [{ name: "[command...]", doc: "Its words, such as discovery query." }],
    examples: [["help discovery query", "the same as discovery query --help"]],
    load: async () => (await import("../verbs/about.ts")).help,
  },
  {
    path: "version",
    isAlone: true,
    summary: "The version of this command.",
    examples: [["version", "prints it"]],
    load: async () => (await import("../verbs/about.ts")).version,
  },
  {
    path: "completion",
    isAlone: true,
    summary: "A completion script for a shell.",
    args: [{ name: "<shell>", doc: "Shell.", choices: ["bash", "zsh", "fish"] }],
    examples: [
      ["completion bash > ~/.local/share/bash-completion/completions/waymark", "for bash"],
      ["completion fish > ~/.config/fish/completions/waymark.fish", "for fish"],
    ],
    load: async () => (await import("../verbs/about.ts")).completion,
  },
];

/** Flags that every verb takes. */
export const GLOBAL_FLAGS: readonly FlagSpec[] = [
  { flags: "--server <host:port>", doc: `gRPC listener, or several separated by commas (WAYMARK_SERVER; default 127.0.0.1:${GRPC_PORT}).` },
  { flags: "--token <token>", doc: "Bearer token (WAYMARK_TOKEN)." },
  { flags: "--tls", doc: "Use TLS, and trust the system's authorities (WAYMARK_TLS=1)." },
  { flags: "--ca <file>", doc: "PEM authorities to trust; turns TLS on (WAYMARK_CA)." },
  { flags: "--cert <file>", doc: "PEM certificate of this client (WAYMARK_CERT)." },
  { flags: "--key <file>", doc: "PEM private key of --cert (WAYMARK_KEY)." },
  { flags: "--tenant <id>", doc: "Read with the view of this tenant, if the server allows it (WAYMARK_TENANT)." },
  { flags: "-o, --output <format>", doc: "Output format (default table).", choices: ["table", "wide", "json", "yaml"] },
  { flags: "--timeout <duration>", doc: `Longest time a request may take (default ${durationText(DEFAULT_TIMEOUT_MS)}).` },
  { flags: "--no-color", doc: "No colour, even on a terminal (NO_COLOR)." },
  { flags: "--quiet", doc: "No notes on stderr, only errors." },
];

/** `config` and its synonym `mesh config`. */
function configVerbs(group: string): readonly VerbSpec[] {
  return [
    {
      path: `${group} validate`,
      isAlone: true,
      summary: "Check a settings file: every value; then settings that contradict each other, and the files that it names.",
      args: [{ name: "[file]", doc: "Settings file, .toml or .json." }],
      flags: [{ flags: "--config <file>", doc: "The settings file, named as for serve." }],
      examples: [[`${group} validate node.toml`, "exit 0 when it is good"]],
      load: async () => (await import("../verbs/config.ts")).validate,
    },
    {
      path: `${group} show`,
      isAlone: true,
      summary: "The effective settings, each with its source. Secrets are masked.",
      flags: [{ flags: "--config <file>", doc: "Settings file, .toml or .json." }],
      examples: [[`${group} show --config node.toml`, "file, environment and defaults together"]],
      load: async () => (await import("../verbs/config.ts")).show,
    },
  ];
}

/** What a group of verbs is about, by its path. */
export const GROUPS: Readonly<Record<string, string>> = {
  import: "Import from other systems.",
  discovery: "Find and follow entries.",
  namespace: "Who may see and export what.",
  "namespace policy": "The policy set: check, apply, roll back, explain.",
  audit: "The audit log: who did what, and who was refused.",
  mesh: "The nodes, and what each knows of the others.",
  "mesh config": "Settings, as config.",
  "mesh peers": "The members of the mesh.",
  summary: "What clusters sign of what they tell other regions.",
  "summary keys": "The signing keys of clusters.",
  resolver: "The cache of a resolver.",
  report: "Reports about the whole catalog.",
  dns: "Names and the DNS gateway.",
  config: "Settings.",
};
