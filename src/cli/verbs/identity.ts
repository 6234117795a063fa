/** Verbs for certificates: `ca`, `cert`, `mesh token` and `mesh join`. */
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  BootstrapService,
  type BootstrapServiceAuthorityResponse,
  BootstrapServiceAuthorityResponseSchema,
  type Identity,
  IdentityRole,
  IdentitySchema,
  type IssuerNode,
  type JoinToken,
  JoinTokenSchema,
} from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import { CredentialService, type ManagedCredential, ManagedCredentialSchema } from "../../../gen/waymark/control/v1/credential_pb.js";
import { IDENTITY_NAME, TRUST_DOMAIN_NAME } from "../../lib/certificates/spiffe.ts";
import { enumWord } from "../../lib/enum-words.ts";
import { type Certificates, type Environment, readInput } from "../environment.ts";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import type { Flags } from "../flags.ts";
import { timeText, wholeJson } from "../messages.ts";
import type { TableColumn } from "../output.ts";
import { readPages } from "../pages.ts";
import type { VerbFunction } from "../table/verb.ts";

const { method } = BootstrapService;

const DEFAULTS = { caDir: "./waymark-ca", dataDir: "./waymark-data", clusterId: "local", trustDomain: "waymark.internal" } as const;
/** Maximum size of a file with a token, an attestation or roots. */
const MAX_INPUT_BYTES = 65_536;
const MAX_USES = 100_000;

const TOKEN_COLUMNS: readonly TableColumn<JoinToken>[] = [
  { title: "TOKEN", text: ({ id }) => id },
  { title: "ROLE", text: ({ role }) => enumWord(IdentityRole, role) },
  { title: "NAME", text: ({ name }) => name || "any" },
  { title: "USED", text: ({ used, uses }) => `${used}/${uses}` },
  { title: "ENDS", text: ({ expiresAt }) => timeText(expiresAt) },
  { title: "MADE BY", text: ({ createdBy }) => createdBy || "-" },
];
const IDENTITY_COLUMNS: readonly TableColumn<Identity>[] = [
  { title: "ROLE", text: ({ role }) => enumWord(IdentityRole, role) },
  { title: "NAME", text: ({ name }) => name },
  { title: "STATE", text: ({ revoked, expiresAt }) => (revoked ? "revoked" : isPast(expiresAt) ? "ended" : "valid") },
  { title: "ISSUER", text: ({ issuer }) => issuer },
  { title: "ENDS", text: ({ expiresAt }) => timeText(expiresAt) },
  { title: "TOKEN", isWide: true, text: ({ tokenId }) => tokenId || "-" },
  { title: "ATTESTED BY", isWide: true, text: ({ attestedBy }) => attestedBy || "-" },
  { title: "KEY", isWide: true, text: ({ keyHash }) => keyHash },
];
const ISSUER_COLUMNS: readonly TableColumn<IssuerNode>[] = [
  { title: "ISSUER", text: ({ nodeId }) => nodeId },
  { title: "ADDRESS", text: ({ address }) => address },
  { title: "ENDS", text: ({ expiresAt }) => timeText(expiresAt) },
  { title: "ROOT", text: ({ rootHash }) => rootHash.slice(0, 16) },
];

const CREDENTIAL_COLUMNS: readonly TableColumn<ManagedCredential>[] = [
  { title: "ACCESSOR", text: ({ accessor }) => accessor },
  { title: "PRINCIPAL", text: ({ principal }) => principal },
  { title: "TENANT", text: ({ tenant }) => tenant || "-" },
  { title: "ROLES", text: ({ roles }) => roles.join(",") || "-" },
  { title: "ENDS", text: ({ expiresAt }) => timeText(expiresAt) },
  { title: "MADE BY", text: ({ createdBy }) => createdBy || "-" },
];

function isPast(time: Identity["expiresAt"]): boolean {
  return time !== undefined && Number(time.seconds) * 1000 < Date.now();
}

export const init: VerbFunction = async ({ environment, flags, out }) => {
  const trustDomain = flags.text("trustDomain") ?? DEFAULTS.trustDomain;
  if (!TRUST_DOMAIN_NAME.pattern.test(trustDomain))
    throw new UsageError(`invalid --trust-domain ${trustDomain}: expected ${TRUST_DOMAIN_NAME.what}`);
  const asked = issuerIn(flags, flags.text("node") === undefined);
  const made = await run(environment, (acts) => acts.makeAuthority({ ...asked, trustDomain }));
  out.document({ ...made }, { columns: AUTHORITY_COLUMNS, rows: [made] });
  if (out.isMachine || made.nodeId === "") return;
  out.note(
    `node ${made.nodeId} of cluster ${made.clusterId} is an issuer until ${made.issuerEnds}. Next steps:`,
    `1. start it: waymark serve --data-dir ${asked.dataDir}`,
    `2. keep ${asked.caDir}/root-key.pem offline: it is needed only to make further issuers`,
    "3. for each further node: waymark mesh token create --node NAME",
  );
};

const AUTHORITY_COLUMNS = [
  { title: "TRUST DOMAIN", text: ({ trustDomain }: { readonly trustDomain: string }) => trustDomain },
  { title: "ISSUER", text: ({ nodeId }: { readonly nodeId: string }) => nodeId || "-" },
  { title: "CLUSTER", text: ({ clusterId }: { readonly clusterId: string }) => clusterId },
  { title: "ROOT ENDS", text: ({ rootEnds }: { readonly rootEnds: string }) => rootEnds },
];

export const intermediate: VerbFunction = async ({ environment, flags, out }) => {
  const asked = issuerIn(flags);
  const { issuerEnds } = await run(environment, (acts) => acts.makeIssuer(asked));
  const { nodeId, clusterId, dataDir } = asked;
  out.json({ nodeId, clusterId, issuerEnds });
  out.note(`node ${nodeId} of cluster ${clusterId} is an issuer until ${issuerEnds}; restart it with the data directory ${dataDir}`);
};

function issuerIn(flags: Flags, isRootOnly = false) {
  const [nodeId = "", clusterId = DEFAULTS.clusterId] = [flags.text("node"), flags.text("clusterId")];
  for (const [flag, text] of [
    ["--node", nodeId],
    ["--cluster-id", clusterId],
  ] as const)
    if (!(isRootOnly || IDENTITY_NAME.pattern.test(text))) throw new UsageError(`invalid ${flag} ${text}: expected ${IDENTITY_NAME.what}`);
  return { nodeId, clusterId, caDir: flags.text("caDir") ?? DEFAULTS.caDir, dataDir: flags.text("dataDir") ?? DEFAULTS.dataDir };
}

export const status: VerbFunction = async ({ out, client }) => {
  const answer = await client().call(method.authority, {});
  out.document(wholeJson(BootstrapServiceAuthorityResponseSchema, answer), { columns: ISSUER_COLUMNS, rows: answer.issuers });
  if (out.isMachine) return;
  const { accepted, liveNodes } = answer;
  for (const { rootId, name, expiresAt, missingOn, usedBy } of accepted) {
    const use = `accepted by ${liveNodes - missingOn.length} and used by ${usedBy.length} of ${liveNodes} live nodes`;
    out.note(`root ${rootId} (${name}) until ${timeText(expiresAt)}: ${use}`);
  }
  if (accepted.length > 1) out.note(`next step: ${nextStep(answer)}`);
};

/** The next step of a rotation, in which several roots are accepted. */
function nextStep({ accepted }: BootstrapServiceAuthorityResponse): string {
  const missing = accepted.find(({ missingOn }) => missingOn.length > 0);
  if (missing !== undefined) return `wait until ${missing.missingOn.join(", ")} accepts the root ${missing.rootId}`;
  const idle = accepted.find(({ usedBy }) => usedBy.length === 0);
  if (idle === undefined) return 'renew the certificates under the root that you want to drop, with "waymark cert renew" on each node';
  return `make issuing certificates under the root ${idle.rootId} with "waymark ca intermediate", or drop it with "waymark ca drop ${idle.rootId}"`;
}

export const publishRoot: VerbFunction = async ({ environment, args: [file = ""], out, client }) => {
  const certificate = await readInput(environment, file, MAX_INPUT_BYTES);
  const { rootId } = await client().call(method.publishRoot, { certificate });
  out.json({ rootId });
  out.note(`root ${rootId} is published; "waymark ca status" shows how many live nodes accept it`);
};

export const dropRoot: VerbFunction = async ({ args: [rootId = ""], flags, out, client }) => {
  await client().call(method.dropRoot, { rootId, force: flags.isOn("force") });
  out.json({ rootId });
  out.note(`root ${rootId} is dropped: nodes no longer accept certificates under it`);
};

export const renew: VerbFunction = async ({ environment, flags, out }) => {
  const dataDir = flags.text("dataDir") ?? DEFAULTS.dataDir;
  const renewed = await run(environment, (acts) => acts.renewCertificate(dataDir));
  out.json({ ...renewed });
  out.note(`${renewed.role} ${renewed.name} has a certificate until ${renewed.expiresAt}; send SIGHUP to a running node`);
};

export const createToken: VerbFunction = async ({ flags, out, client }) => {
  const ttlMs = flags.durationMs("ttl");
  const { token, info } = await client().call(method.createToken, {
    name: flags.text("node") ?? "",
    role: roleIn(flags),
    uses: flags.count("uses", MAX_USES) ?? 0,
    dnsNames: [...flags.list("dnsName")],
    ...(ttlMs !== undefined && { ttl: durationFromMs(ttlMs) }),
  });
  out.json({ token, info: info && wholeJson(JoinTokenSchema, info) });
  if (out.isMachine) return;
  out.raw(`${token}\n`);
  out.note(
    `the token ends at ${timeText(info?.expiresAt)}; it is not shown again. On the new machine:`,
    "waymark mesh join --server ISSUER:17421 --token-file FILE",
  );
};

export const listTokens: VerbFunction = async ({ flags, out, client }) => {
  const { tokens } = await readPages(flags, ["tokens"], (page) => client().call(method.listTokens, page));
  out.document({ tokens: tokens.map((token) => wholeJson(JoinTokenSchema, token)) }, { columns: TOKEN_COLUMNS, rows: tokens });
};

export const revokeToken: VerbFunction = async ({ args: [tokenId = ""], out, client }) => {
  await client().call(method.revokeToken, { tokenId });
  out.json({ tokenId });
  out.note(`token ${tokenId} is revoked`);
};

export const join: VerbFunction = async ({ environment, flags, out }) => {
  const read = async (file: string | undefined, flag: string) =>
    file === undefined ? "" : (await readInput(environment, file, MAX_INPUT_BYTES, flag)).trim();
  const token = await read(flags.text("tokenFile"), "--token-file");
  const attestation = await read(flags.text("attestationFile"), "--attestation-file");
  const roots = await read(flags.text("ca"), "--ca");
  const tokenFile = flags.text("tokenFile");
  if (tokenFile !== undefined && token === "") throw new UsageError(`the file ${tokenFile} (--token-file) is empty`);
  if (token === "" && (attestation === "" || roots === ""))
    throw new UsageError("missing --token-file: without a token, --attestation-file and --ca with the roots of the cluster are needed");
  const server = flags.text("server");
  if (server === undefined) throw new UsageError("missing --server: name the fabric address of an issuer, such as --server eu-1:17421");
  const name = flags.text("nodeId") ?? "";
  if (name !== "" && !IDENTITY_NAME.pattern.test(name)) throw new UsageError(`invalid --node-id ${name}: expected ${IDENTITY_NAME.what}`);
  const { dataDir = DEFAULTS.dataDir, clusterId = DEFAULTS.clusterId } = {
    dataDir: flags.text("dataDir"),
    clusterId: flags.text("clusterId"),
  };
  const joined = await run(environment, (acts) => acts.joinMesh({ server, token, attestation, roots, clusterId, name, dataDir }));
  out.json({ ...joined });
  const isServed = joined.role !== "client";
  const renewal = isServed ? "and renews itself while it runs" : `renew it in time with waymark cert renew --data-dir ${dataDir}`;
  out.note(`this machine is ${joined.role} ${joined.name} of cluster ${joined.clusterId} until ${joined.expiresAt}, ${renewal}`);
  if (isServed) out.note(`start it: waymark serve${joined.role === "resolver" ? " --mode resolver" : ""} --data-dir ${dataDir}`);
};

export const revoke: VerbFunction = async ({ args: [name = ""], flags, out, client }) => {
  const reason = flags.text("reason") ?? "";
  const { wasIssuer } = await client().call(method.revoke, { name, role: roleIn(flags), reason, force: flags.isOn("force") });
  out.json({ name, wasIssuer });
  out.note(`${name} is revoked: all nodes refuse and disconnect it within seconds`);
  if (wasIssuer)
    out.note("it was an issuer, so its issuing key is revoked too; change its password for the control store, which is lost as well");
};

export const createCredential: VerbFunction = async ({ flags, out, client }) => {
  const ttlMs = flags.durationMs("ttl");
  const { token, info } = await client().call(CredentialService.method.create, {
    principal: flags.text("principal") ?? "",
    tenant: flags.text("tenant") ?? "",
    roles: [...flags.list("role")],
    ...(ttlMs !== undefined && { ttl: durationFromMs(ttlMs) }),
  });
  out.json({ token, info: info && wholeJson(ManagedCredentialSchema, info) });
  if (out.isMachine) return;
  out.raw(`${token}\n`);
  out.note(`token ${info?.accessor} of ${info?.principal} ends at ${timeText(info?.expiresAt)}; it is not shown again`);
};

export const listCredentials: VerbFunction = async ({ flags, out, client }) => {
  const call = CredentialService.method.list;
  const { credentials } = await readPages(flags, ["credentials"], (page) => client().call(call, page));
  const json = { credentials: credentials.map((each) => wholeJson(ManagedCredentialSchema, each)) };
  out.document(json, { columns: CREDENTIAL_COLUMNS, rows: credentials });
};

export const revokeCredential: VerbFunction = async ({ args: [accessor = ""], flags, out, client }) => {
  await client().call(CredentialService.method.revoke, { accessor, reason: flags.text("reason") ?? "" });
  out.json({ accessor });
  out.note(`token ${accessor} is revoked`);
};

export const list: VerbFunction = async ({ flags, out, client }) => {
  const role = roleIn(flags);
  const { identities } = await readPages(flags, ["identities"], (page) => client().call(method.listIdentities, { role, ...page }));
  const json = { identities: identities.map((each) => wholeJson(IdentitySchema, each)) };
  out.document(json, { columns: IDENTITY_COLUMNS, rows: identities });
};

export const issue: VerbFunction = async ({ environment, flags, out, client }) => {
  const [name = "", directory = ""] = [flags.text("client"), flags.text("out")];
  const ttlMs = flags.durationMs("ttl");
  const { publicKey, keep } = await run(environment, (acts) => acts.newClientKey(directory));
  const { certificates, roots, identity } = await client().call(method.issue, {
    role: IdentityRole.CLIENT,
    name,
    publicKey,
    dnsNames: [...flags.list("dnsName")],
    ...(ttlMs !== undefined && { ttl: durationFromMs(ttlMs) }),
  });
  await run(environment, () => keep({ certificates, roots }));
  out.document(identity && wholeJson(IdentitySchema, identity), {
    columns: IDENTITY_COLUMNS,
    rows: identity === undefined ? [] : [identity],
  });
  out.note(`written: cert.pem, key.pem and roots.pem in ${directory}`);
};

function roleIn(flags: Flags): IdentityRole {
  const word = flags.text("role");
  if (word === "node") return IdentityRole.NODE;
  if (word === "resolver") return IdentityRole.RESOLVER;
  return word === "client" ? IdentityRole.CLIENT : IdentityRole.UNSPECIFIED;
}

/** Acts on the certificates of this machine. */
async function run<T>(environment: Environment, act: (acts: Certificates) => T | Promise<T>): Promise<T> {
  const acts = await environment.certificates();
  try {
    return await act(acts);
  } catch (error) {
    throw new CommandError(error instanceof Error ? error.message : String(error), EXIT.usage, error);
  }
}
