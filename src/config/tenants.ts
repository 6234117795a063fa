/** Settings for the identity and access of callers: the group `tenants` of SETTINGS in `settings.ts`. */
import { parseBlock } from "../lib/addresses.ts";
import { bool, choice, ID, list, ms, RELOADED_FILE, text } from "./field.ts";
import { record, rows } from "./field-table.ts";

const PRINCIPAL = { pattern: /^[\x21-\x7e]{1,256}$/, what: "1 to 256 printable ASCII characters without spaces" } as const;
const ROLE = {
  pattern: /^(?:mesh\.(?:read|operate|admin|resolve)|owner:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)$/,
  what: "mesh.read, mesh.operate, mesh.admin, mesh.resolve or owner:<namespace>",
} as const;
const CLAIM = { pattern: /^[\x21-\x7e]{1,128}$/, what: "the name of a claim" } as const;
/** Only public-key signatures. With HS256, every service that verifies tokens could also create them. */
const ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"] as const;

const KNOWN_HEADERS = new Set(["authorization", "x-api-key", "x-request-id", "host", "content-type", "te", "cookie"]);

export const TENANT_SETTINGS = {
  mode: bool({ default: false, doc: "Isolate tenants: a caller without a credential gets no tenant, not even tenants.default." }),
  anonymous: choice({
    choices: ["none", "read", "all"],
    doc: "Access of callers without a credential over gRPC and HTTP. none: only health checks. read: reads. all: everything that does not require a role, or everything if no credentials are configured. Defaults to all on loopback without configured credentials, and to read in all other cases. For DNS, none means that only sources with a view (dns.views) get answers.",
  }),
  managed: bool({
    default: false,
    doc: "Accept the tokens that administrators make with `waymark auth token create`. Their digests are in the control store, and all nodes of the cluster accept or refuse a token within seconds.",
  }),
  default: text({ ...ID, doc: "Tenant of callers whose credential has no tenant." }),
  allowRequestOverride: bool({
    default: false,
    doc: "Allow callers without a credential to read with the view of the tenant and cluster named in their request.",
  }),
  clientCertificates: choice({
    choices: ["identity", "transport"],
    default: "identity",
    doc: "Use of client certificates. identity: a certificate identifies the caller. transport: a certificate only permits the connection.",
  }),
  certificates: rows({
    doc: "Tenants and roles of callers with a client certificate. The first row whose principal matches is used.",
    fields: {
      principal: text({
        pattern: /^(?!.*\*.*\*)[\x21-\x7e]{1,256}$/,
        what: "a SPIFFE id, DNS name or common name, in which one * can match any characters",
        default: "",
        doc: "SPIFFE id (`spiffe://domain/path`), or else the DNS name, or else the common name of the subject. One `*` matches any characters.",
      }),
      tenant: text({ ...ID, doc: "Tenant of these callers. Defaults to tenants.default." }),
      cluster: text({ ...ID, doc: "Cluster whose view these callers use. Defaults to this node's cluster." }),
      roles: list({ ...ROLE, default: [], doc: "Roles of these callers." }),
    },
    required: ["principal"],
  }),
  credentials: rows({
    doc: "Tokens and API keys that this node accepts, each given as a hash or in a file.",
    fields: {
      tenant: text({ ...ID, default: "", doc: "Tenant of the caller." }),
      principal: text({ ...PRINCIPAL, doc: "Principal of the caller. Defaults to the tenant." }),
      cluster: text({ ...ID, doc: "Cluster whose view the caller uses. Defaults to this node's cluster." }),
      scheme: choice({
        choices: ["bearer", "api-key"],
        default: "bearer",
        doc: "Header that carries the credential: `bearer` is `authorization: Bearer …`; `api-key` is `x-api-key`.",
      }),
      tokenSha256: text({
        pattern: /^[0-9a-f]{64}$/,
        what: "64 lower-case hexadecimal digits",
        secret: true,
        doc: "SHA-256 of the token: 64 lower-case hexadecimal digits.",
      }),
      tokenFile: text({ ...RELOADED_FILE, doc: "File with the token itself, on one line." }),
      roles: list({ ...ROLE, default: [], doc: "Roles of the caller." }),
    },
    required: ["tenant"],
    check: ({ tokenSha256, tokenFile }) =>
      (tokenSha256 === undefined) === (tokenFile === undefined) ? "needs either token_sha256 or token_file" : undefined,
  }),
  jwt: record({
    doc: "Signed tokens (JWT) of an issuer, sent as `authorization: Bearer …`.",
    fields: {
      issuer: text({ pattern: /^[\x21-\x7e]{1,512}$/, what: "an issuer", default: "", doc: "Required value of the `iss` claim." }),
      audience: text({
        pattern: /^[\x21-\x7e]{1,512}$/,
        what: "an audience",
        default: "",
        doc: "Required value of the `aud` claim, or of one of its items.",
      }),
      jwksFile: text({ ...RELOADED_FILE, doc: "File with the issuer's public keys (JWKS). The file is reread when it changes." }),
      jwksUrl: text({
        pattern: /^https?:\/\/[^\s]{1,2000}$/,
        what: "an http or https URL",
        doc: "URL of the issuer's public keys (JWKS).",
      }),
      algorithms: list({
        pattern: new RegExp(`^(?:${ALGORITHMS.join("|")})$`),
        what: `one of ${ALGORITHMS.join(", ")}`,
        default: ["RS256", "ES256", "EdDSA"],
        doc: "Accepted signature algorithms.",
      }),
      clockSkewMs: ms({ default: 60_000, min: 0, max: 600_000, doc: "Tolerated difference between the issuer's clock and this node's." }),
      principalClaim: text({ ...CLAIM, default: "sub", doc: "Claim that contains the principal." }),
      tenantClaim: text({
        ...CLAIM,
        default: "tenant",
        doc: "Claim that contains the tenant. If the token lacks this claim, tenants.default is used.",
      }),
      clusterClaim: text({
        ...CLAIM,
        default: "cluster",
        doc: "Claim that contains the cluster. If the token lacks this claim, this node's cluster is used.",
      }),
      rolesClaim: text({
        ...CLAIM,
        default: "roles",
        doc: "Claim that contains the roles, as a list or as space-separated words. Unknown roles are ignored.",
      }),
    },
    required: ["issuer", "audience"],
    check: ({ jwksFile, jwksUrl, algorithms }) => {
      if ((jwksFile === undefined) === (jwksUrl === undefined)) return "needs either jwks_file or jwks_url";
      return algorithms.length === 0 ? "needs at least one value in algorithms" : undefined;
    },
  }),
  trustedHeader: record({
    doc: "Header in which a trusted proxy in front of this node passes the caller's tenant.",
    fields: {
      name: text({
        pattern: /^[a-z0-9-]{1,64}$/,
        what: "the lower-case name of a header",
        default: "",
        doc: "Name of the header, in lower case.",
      }),
      from: list({
        pattern: /^[0-9a-fA-F:.]{2,45}(?:\/\d{1,3})?$/,
        what: "an address or a block such as 10.0.0.0/8",
        default: [],
        doc: "Addresses or CIDR blocks of the proxies. A request that has the header and comes from any other address is refused.",
      }),
    },
    required: ["name", "from"],
    check: ({ name, from }) => {
      if (KNOWN_HEADERS.has(name)) return `${name} is reserved for another purpose; choose a different name`;
      if (from.length === 0) return "from needs at least one address";
      const wrong = from.find((block) => parseBlock(block) === undefined);
      return wrong === undefined ? undefined : `${wrong} is neither an address nor a CIDR block whose host bits are all zero`;
    },
  }),
} as const;
