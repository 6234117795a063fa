/** The rows of the VERBS table for certificates: the authority, join tokens and identities. */
import type { FlagSpec, VerbSpec } from "./verb.ts";

const identity = () => import("../verbs/identity.ts");
const joinPolicy = () => import("../verbs/join-policy.ts");

const CA_DIRECTORY: FlagSpec = { flags: "--ca-dir <dir>", doc: "Directory with root.pem and root-key.pem (default ./waymark-ca)." };
const DATA_DIR: FlagSpec = { flags: "--data-dir <dir>", doc: "Data directory of the node (default ./waymark-data)." };
const CLUSTER: FlagSpec = { flags: "--cluster-id <id>", doc: "Cluster of the node (default local)." };
const ISSUER: FlagSpec = { flags: "--node <id>", doc: "Id of the node that issues certificates.", isRequired: true };
const ROOT_ISSUER: FlagSpec = { flags: "--node <id>", doc: "Id of the first issuer (default: none, to replace the root of a cluster)." };
const DNS_NAME: FlagSpec = {
  flags: "--dns-name <name>",
  doc: "Host name or IPv4 address in the certificate, by which clients verify it. Repeat the flag for several names.",
  isRepeatable: true,
};

export const IDENTITY_VERBS: readonly VerbSpec[] = [
  {
    path: "ca init",
    isAlone: true,
    summary: "Make a root certificate, and make a node the first issuer. Needs no server.",
    flags: [
      ROOT_ISSUER,
      CLUSTER,
      { flags: "--trust-domain <name>", doc: "Trust domain in all certificates (default waymark.internal)." },
      CA_DIRECTORY,
      DATA_DIR,
    ],
    examples: [
      ["ca init --node eu-1 --cluster-id eu", "make a root in ./waymark-ca, and an issuing certificate in the data directory of eu-1"],
      ["ca init --ca-dir next-ca", "make the next root of a cluster in ./next-ca"],
    ],
    load: async () => (await identity()).init,
  },
  {
    path: "ca intermediate",
    isAlone: true,
    summary: "Make a node an issuer, or replace its issuing certificate, with the root's key. Needs no server.",
    flags: [ISSUER, CLUSTER, CA_DIRECTORY, DATA_DIR],
    examples: [["ca intermediate --node eu-2 --cluster-id eu", "make an issuing certificate in the data directory of eu-2"]],
    load: async () => (await identity()).intermediate,
  },
  {
    path: "ca status",
    summary: "List the roots with the number of live nodes that accept and use them, and the issuers. Shows the next step of a rotation.",
    isDefault: true,
    examples: [["ca status", "list the roots and the issuers, and when their certificates end"]],
    load: async () => (await identity()).status,
  },
  {
    path: "ca publish",
    summary: "Publish another root, which all nodes then accept. It can be the CA certificate of any authority.",
    args: [{ name: "<file>", doc: "Root certificate in PEM; - is standard input." }],
    examples: [["ca publish next-ca/root.pem", "let all nodes accept certificates under a new root"]],
    load: async () => (await identity()).publishRoot,
  },
  {
    path: "ca drop",
    summary: "Drop a root, so that no node accepts certificates under it. Refused while live nodes or other programs use it.",
    args: [{ name: "<root-id>", doc: "Id of the root, from ca status." }],
    flags: [{ flags: "--force", doc: "Also if certificates under the root are in use, or live nodes do not announce their roots." }],
    examples: [["ca drop 3f9a1c2b7d104e55", "end the rotation of a root"]],
    load: async () => (await identity()).dropRoot,
  },
  {
    path: "mesh token create",
    summary: "Make a token with which a machine joins the cluster, and print it once.",
    flags: [
      { flags: "--node <name>", doc: "The only name that the token admits (default: the machine chooses a name without a holder)." },
      {
        flags: "--role <role>",
        doc: "Role of the programs that the token admits (default node).",
        choices: ["node", "resolver", "client"],
      },
      { flags: "--uses <n>", doc: "Number of programs that the token can admit (default 1)." },
      { flags: "--ttl <duration>", doc: "How long the token is valid, at most 30d (default 1h)." },
      DNS_NAME,
    ],
    examples: [
      ["mesh token create --node eu-2 --ttl 10m > token", "write a token for the node eu-2 to a file"],
      ["mesh token create --uses 20 --ttl 24h", "make a token for 20 nodes of an image, which choose their names"],
    ],
    load: async () => (await identity()).createToken,
  },
  {
    path: "mesh token list",
    summary: "List the join tokens, without their secrets.",
    isDefault: true,
    examples: [["mesh token list", "list the tokens, and how often they were used"]],
    load: async () => (await identity()).listTokens,
  },
  {
    path: "mesh token revoke",
    summary: "End a join token. Machines that have joined with it keep their certificates.",
    args: [{ name: "<id>", doc: "Id of the token, such as eu:3f9a1c2b7d10." }],
    examples: [["mesh token revoke eu:3f9a1c2b7d10", "end a token that was lost"]],
    load: async () => (await identity()).revokeToken,
  },
  {
    path: "mesh join",
    isAlone: true,
    summary: "Join a cluster with a token: get a certificate from an issuer, and keep it in the data directory.",
    flags: [
      { flags: "--token-file <file>", doc: "File with the join token; - is standard input." },
      { flags: "--attestation-file <file>", doc: "File with a signed token (JWT), in addition to the join token or instead of it." },
      { flags: "--node-id <id>", doc: "Name of this node, if the token admits several, or without a token." },
      { flags: "--cluster-id <id>", doc: "Cluster to join without a token (default local); --ca names its roots." },
      DATA_DIR,
    ],
    examples: [
      ["mesh join --server eu-1:17421 --token-file token", "join through the fabric port of an issuer; then run waymark serve"],
      ["mesh join --server eu-1:17421 --attestation-file jwt --node-id eu-7 --cluster-id eu --ca root.pem", "join without a token"],
    ],
    load: async () => (await identity()).join,
  },
  {
    path: "mesh join-policy apply",
    summary: "Replace the join policy, which decides which programs can join the cluster.",
    args: [{ name: "<file>", doc: "YAML or JSON file with the policy; - is standard input." }],
    flags: [{ flags: "--expect <version>", doc: "Fail unless the current policy has this version." }],
    examples: [["mesh join-policy apply join.yaml --expect 3", "replace version 3 of the policy"]],
    load: async () => (await joinPolicy()).apply,
  },
  {
    path: "mesh join-policy show",
    summary: "Print the join policy, in a form that apply reads.",
    isDefault: true,
    examples: [["mesh join-policy show -o yaml > join.yaml", "save the policy"]],
    load: async () => (await joinPolicy()).show,
  },
  {
    path: "mesh revoke",
    summary: "Revoke an identity: every node refuses and disconnects it within seconds. An issuer loses its issuing key too.",
    args: [{ name: "<name>", doc: "Name of the node, resolver or client, such as eu-2." }],
    flags: [
      { flags: "--role <role>", doc: "Role of the identity (default node).", choices: ["node", "resolver", "client"] },
      { flags: "--reason <text>", doc: "Why, for the audit log.", isRequired: true },
      { flags: "--force", doc: "Also if no certificate is on record for the name, because the control store was lost." },
    ],
    examples: [["mesh revoke eu-2 --reason stolen", "shut out the node eu-2"]],
    load: async () => (await identity()).revoke,
  },
  {
    path: "auth token create",
    summary: "Make a token for callers, and print it once. All nodes with tenants.managed accept it within seconds.",
    flags: [
      { flags: "--principal <name>", doc: "Principal of callers with the token.", isRequired: true },
      { flags: "--tenant <id>", doc: "Tenant of these callers (default tenants.default)." },
      {
        flags: "--role <role>",
        doc: "Role of these callers, such as mesh.read or owner:shop.market. Repeat the flag for several roles.",
        isRepeatable: true,
      },
      { flags: "--ttl <duration>", doc: "How long the token is valid, at most 365d (default 90d)." },
    ],
    examples: [
      ["auth token create --principal deployer --tenant market --role owner:shop.market --ttl 90d", "make a token for a deployer"],
    ],
    load: async () => (await identity()).createCredential,
  },
  {
    path: "auth token list",
    summary: "List the tokens of callers, without their secrets.",
    isDefault: true,
    examples: [["auth token list", "list the tokens, their roles and when they end"]],
    load: async () => (await identity()).listCredentials,
  },
  {
    path: "auth token revoke",
    summary: "End a token of callers. Their open streams end too.",
    args: [{ name: "<accessor>", doc: "Id of the token, such as 3f9a1c2b7d10." }],
    flags: [{ flags: "--reason <text>", doc: "Why, for the audit log." }],
    examples: [["auth token revoke 3f9a1c2b7d10 --reason leaked", "end a token that was leaked"]],
    load: async () => (await identity()).revokeCredential,
  },
  {
    path: "cert list",
    summary: "List the identities of the cluster: who holds a certificate, who issued it, and when it ends.",
    isDefault: true,
    flags: [{ flags: "--role <role>", doc: "Only identities with this role.", choices: ["node", "resolver", "client"] }],
    examples: [["cert list --role node", "list the certificates of nodes"]],
    load: async () => (await identity()).list,
  },
  {
    path: "cert renew",
    isAlone: true,
    summary: "Renew the certificate in a data directory now. A running node uses it after SIGHUP.",
    flags: [DATA_DIR],
    examples: [["cert renew --data-dir ./waymark-data", "renew the certificate of the node on this machine"]],
    load: async () => (await identity()).renew,
  },
  {
    path: "cert issue",
    summary: "Issue a certificate for a program, and write it with its key and the roots to a directory.",
    flags: [
      { flags: "--client <name>", doc: "Name of the program.", isRequired: true },
      { flags: "--out <dir>", doc: "Directory for cert.pem, key.pem and roots.pem.", isRequired: true },
      { flags: "--ttl <duration>", doc: "How long the certificate is valid, from 1m to 90d (default identity.leaf_ttl of the issuer)." },
      DNS_NAME,
    ],
    examples: [["cert issue --client billing --out billing-cert --ttl 30d", "make a certificate with the name billing"]],
    load: async () => (await identity()).issue,
  },
];
