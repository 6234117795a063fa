/** Settings for the certificates of nodes: the group `identity` of SETTINGS in `settings.ts`. */
import { DAY_MS, MINUTE_MS } from "../lib/duration.ts";
import { choice, list, ms, PATH, text } from "./field.ts";
import { AT_RESOLVER } from "./resolver.ts";

export const IDENTITY_SETTINGS = {
  source: choice({
    choices: ["auto", "files", "mesh", "spire"],
    default: "auto",
    doc: "Where the certificate of this node or resolver for other nodes comes from. files: fabric.cert_file (on a resolver resolver.tls_cert_file), if it is set. mesh: an issuer of the cluster, after `waymark mesh join`; the node renews it. spire: a SPIFFE agent, by the Workload API at identity.spire_socket. auto: mesh if the data directory contains an identity or an issuing certificate, and files otherwise.",
  }),
  spireSocket: text({
    ...PATH,
    doc: "Unix socket of the SPIFFE agent. The agent must give this process the identity spiffe://<trust domain>/waymark/cluster/<cluster>/node/<name> (or …/resolver/<name>).",
  }),
  issuerCertFile: text({
    ...PATH,
    notForResolver: AT_RESOLVER.fabric,
    perNode: true,
    doc: "PEM file with the issuing certificate of this node and its root, which makes the node an issuer. When absent, the files that `waymark ca` writes into the data directory are used, if they exist.",
  }),
  issuerKeyFile: text({ ...PATH, perNode: true, doc: "PEM file with the private key of identity.issuer_cert_file." }),
  names: list({
    pattern: /^(?!(?:.*\.)?waymark\.?$)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,30}$/i,
    what: "a host name or an IPv4 address, and not below waymark",
    maxItems: 16,
    notForResolver: AT_RESOLVER.fabric,
    perNode: true,
    default: [],
    doc: "Only for issuers: host names and IPv4 addresses in the certificate that this issuer makes for itself, by which clients verify it if tls.source is identity. The names of other nodes are part of their join tokens (`--dns-name`).",
  }),
  leafTtlMs: ms({
    default: DAY_MS,
    min: MINUTE_MS,
    max: 7 * DAY_MS,
    doc: "How long certificates are valid that this issuer makes. Nodes renew them after half of this time.",
  }),
  renewAfterEndMs: ms({
    default: 7 * DAY_MS,
    min: 0,
    max: 90 * DAY_MS,
    doc: "How long after its end a certificate can still be renewed with its key, so that a fleet that was switched off comes back without new tokens.",
  }),
} as const;
