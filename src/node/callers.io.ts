/** Builds the table of callers (`policy/identity/tenants.ts`) from settings and files, and determines the rights of callers without credentials. */

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { anonymousAccess, exposureFaults, exposureWarnings, hasCredentials } from "../config/exposure.ts";
import type { Settings } from "../config/settings.ts";
import { isLoopbackHost, parseBlock } from "../lib/addresses.ts";
import { NO_REVOCATIONS } from "../lib/certificates/revocations.ts";
import { sha256Hex } from "../lib/crypto.ts";
import type { Log } from "../lib/log.io.ts";
import type { Time } from "../lib/machine.ts";
import { readToken } from "../lib/named-file.io.ts";
import { writePrivateFile } from "../lib/private-directory.io.ts";
import { type Caller, MESH_ROLES, tokenIdOf } from "../policy/identity/caller.ts";
import type { IdentityDefaults } from "../policy/identity/claims.ts";
import { type ConnectionPeer, type Credential, type ManagedCallers, Tenants } from "../policy/identity/tenants.ts";
import { DATA_FILES } from "../store/data-directory.ts";
import { fabricHost } from "./fabric/address.io.ts";
import { credentialWarnings, fileWarnings } from "./files/file-warnings.io.ts";

export interface CallerIdentities {
  /** Like `ChainPorts.identify`. */
  readonly identify: (header: (name: string) => string | undefined, peer: ConnectionPeer) => Caller | Promise<Caller>;
  /** Registers a callback for changes that can cause known callers to be refused or to get another identity. */
  follow(onChanged: () => void): void;
  /** Uses these tokens and revocations, in addition to those in settings and files. */
  setManaged(managed: ManagedCallers): void;
  /** Reads token files and the issuer's keys again. If a file cannot be read, the old content stays in force and a warning is logged. */
  reload(): void;
  stop(): void;
}

export interface IdentityOptions {
  readonly settings: Settings;
  /** Makes this process the administrator of its own machine. Undefined without a data directory. */
  readonly operatorToken?: string | undefined;
  readonly clusterId: string;
  readonly log: Log;
  readonly now: () => Time;
}

/** Throws if every client on the network could use the node and no setting allows such access. Logs all other warnings. */
export function checkExposure(settings: Settings, log: Log): void {
  if (settings.fabric.enabled !== false) fabricHost(settings);
  const [fault] = exposureFaults(settings);
  if (fault !== undefined) throw new Error(fault);
  for (const warning of [...exposureWarnings(settings), ...fileWarnings(settings)]) log.warn({ warning }, "settings warning");
}

/** Returns the roles of callers that have no credential. If no credentials are configured, `tenants.anonymous` determines the roles. */
function anonymousRoles(settings: Settings): readonly string[] {
  const { listen } = settings;
  if (hasCredentials(settings) || !(isLoopbackHost(listen.host) || listen.insecure)) return [];
  return anonymousAccess(settings) === "all" ? MESH_ROLES : ["mesh.read"];
}

/** Reads the files that the settings name. If a file cannot be used, rejects with a message that names the setting. */
export async function openIdentities(options: IdentityOptions): Promise<CallerIdentities> {
  const { settings, clusterId } = options;
  const { tenants } = settings;
  const defaults = { tenant: tenants.default ?? "", cluster: clusterId };
  const roles = anonymousRoles(settings);
  if (!hasCredentials(settings)) {
    const identify = sharedIdentity({ roles, ...defaults, tenant: tenants.mode ? "" : defaults.tenant });
    return { identify, follow: () => {}, setManaged: () => {}, reload: () => {}, stop: () => {} };
  }
  let managed: ManagedCallers = { credentials: [], revocations: NO_REVOCATIONS };
  const followers: (() => void)[] = [];
  const notifyChanged = () => followers.forEach((onChanged) => onChanged());
  const tokens = await openTokens(options, defaults, notifyChanged);
  const build = () =>
    new Tenants({
      isTenantMode: tenants.mode,
      defaults,
      anonymousRoles: roles,
      areCertificatesIdentities: tenants.clientCertificates === "identity",
      certificates: tenants.certificates.map((row) => ({ ...row, pattern: row.principal })),
      credentials: [...operatorCredentials(options), ...managed.credentials, ...readCredentials(settings, clusterId)],
      revocations: managed.revocations,
      tokens,
      trustedHeader: headerRule(settings),
      wallMs: () => options.now().wallMs,
    });
  let table = build();
  return {
    identify: (header, peer) => table.identify(header, peer),
    follow: (onChanged) => void followers.push(onChanged),
    stop: () => tokens?.close(),
    setManaged: (next) => {
      managed = next;
      table = build();
      notifyChanged();
    },
    reload: () => {
      void tokens?.reread();
      try {
        table = build();
        notifyChanged();
        options.log.info({}, "credentials reloaded");
        for (const warning of credentialWarnings(settings)) options.log.warn({ warning }, "settings warning");
      } catch (error) {
        options.log.warn({ err: error }, "credential reload failed, keeping the current credentials");
      }
    },
  };
}

/**
 * Makes a token. A caller on this machine that presents it is an administrator, even if all other tokens are lost. Tor's control cookie works in the
 * same way. Undefined if no credential is needed anyway.
 */
export function newOperatorToken(settings: Settings): string | undefined {
  const { ephemeral } = settings.persistence;
  return ephemeral || !hasCredentials(settings) ? undefined : `wmo1.${randomBytes(32).toString("base64url")}`;
}

/** Writes the token into the data directory, where only this user can read it. The directory must be locked by this process. */
export function keepOperatorToken({ persistence }: Settings, token: string | undefined): void {
  if (token !== undefined) writePrivateFile(join(persistence.dataDir, DATA_FILES.operatorToken), `${token}\n`);
}

/** Reads the token that the main thread has written. */
export function readOperatorToken(settings: Settings): string | undefined {
  const { ephemeral, dataDir } = settings.persistence;
  if (ephemeral || !hasCredentials(settings)) return undefined;
  return readToken(join(dataDir, DATA_FILES.operatorToken), "persistence.data_dir");
}

function operatorCredentials({ operatorToken, clusterId }: IdentityOptions): readonly Credential[] {
  if (operatorToken === undefined) return [];
  const digest = sha256Hex(operatorToken);
  const roles = ["mesh.admin"];
  const identity = { principal: "operator", tenant: "", cluster: clusterId, roles, isAuthenticated: true, tokenId: tokenIdOf(digest) };
  return [{ scheme: "bearer", digest, identity, isLocal: true }];
}

/** Returns the same identity for all callers. Headers are ignored, because no credentials are configured. */
function sharedIdentity(as: {
  readonly roles: readonly string[];
  readonly tenant: string;
  readonly cluster: string;
}): CallerIdentities["identify"] {
  const { roles, tenant, cluster } = as;
  // HOT: called once per request on a node with default settings. Allocates only one object.
  return (_header, { address }) => ({ principal: "", tenant, cluster, roles, isAuthenticated: false, address });
}

async function openTokens({ settings, log, now }: IdentityOptions, defaults: IdentityDefaults, onKeysChanged: () => void) {
  const { jwt } = settings.tenants;
  if (jwt === undefined) return undefined;
  const { principalClaim, tenantClaim, clusterClaim, rolesClaim } = jwt;
  const claims = { principal: principalClaim, tenant: tenantClaim, cluster: clusterClaim, roles: rolesClaim };
  // Loaded only here, because most nodes do not verify tokens and the library needs 20 ms to load.
  const { TokenVerifier } = await import("../policy/identity/tokens.io.ts");
  const verifier = new TokenVerifier(
    { ...jwt, claims, defaults },
    {
      wallMs: () => now().wallMs,
      monoMs: () => now().monoMs,
      onKeysFailed: (error) => log.warn({ err: error }, "token issuer key reload failed, keeping the current keys, if any"),
      onKeysChanged,
    },
  );
  try {
    await verifier.open();
  } catch (error) {
    throw new Error(`tenants.jwt.jwks_file: ${error instanceof Error ? error.message : "cannot be read"}`, { cause: error });
  }
  return verifier;
}

export function readCredentials({ tenants }: Settings, clusterId: string): readonly Credential[] {
  const seen = new Map<string, number>();
  return tenants.credentials.map((row, i) => {
    const digest = row.tokenSha256 ?? sha256Hex(readToken(row.tokenFile ?? "", `tenants.credentials[${i}].token_file`));
    const twin = seen.get(`${row.scheme} ${digest}`);
    if (twin !== undefined)
      throw new Error(`tenants.credentials[${i}] has the same token as tenants.credentials[${twin}]: use a separate token for each`);
    seen.set(`${row.scheme} ${digest}`, i);
    const { tenant, principal = tenant, cluster = clusterId, roles } = row;
    return {
      scheme: row.scheme,
      digest,
      identity: { principal, tenant, cluster, roles, isAuthenticated: true, tokenId: tokenIdOf(digest) },
    };
  });
}

function headerRule({ tenants }: Settings) {
  if (tenants.trustedHeader === undefined) return undefined;
  const { name, from } = tenants.trustedHeader;
  return { name, from: from.map(parseBlock).filter((block) => block !== undefined) };
}
