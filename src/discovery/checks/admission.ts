/**
 * Decides which checks a registration may have: whether this node runs checks, which addresses they may reach, and which entries an alias
 * may follow.
 */
import { type Check, targetOf, type WithChecks } from "../../catalog/entry/checks.ts";
import { parseKey } from "../../catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import { type KeyText, keyParts } from "../../catalog/record/record.ts";
import { parseAddress } from "../../lib/addresses.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { hiddenError, type OnDenied, type PolicySource } from "../../policy/set/verdict.ts";
import type { ProbeAllowList } from "./probe-allow-list.ts";

/** The fields of an alias check. */
type AliasProbe = Extract<Check["probe"], { readonly case: "alias" }>["value"];

export interface AdmissionParts {
  /** The setting `checks.enabled`. */
  readonly isEnabled: boolean;
  readonly reach: ProbeAllowList;
  readonly clusterId: string;
  readonly policies: PolicySource;
  readonly onDenied: OnDenied;
  /** Whether this node knows that the entry with this key has alias checks. Returns false if the entry does not exist. */
  readonly hasAlias: (key: KeyText) => boolean;
}

export class CheckAdmission {
  readonly #parts: AdmissionParts;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  /**
   * Throws `checks_disabled` for an entry with checks if this node does not run checks. Must be called before any other validation, so that this
   * error has precedence.
   */
  checkEnabled({ checks }: WithChecks, index: number): void {
    if (checks.length === 0 || this.#parts.isEnabled) return;
    const field = `entries[${index}].checks`;
    const description =
      "this node does not run checks because checks.enabled is false; set it to true and set checks.allowed, or register without checks";
    throw new WaymarkError("checks_disabled", `${field}: ${description}`, { violations: [{ field, description }] });
  }

  /**
   * Throws `invalid_argument` for a check of a forbidden address, and for an alias to the entry itself or to an entry with alias checks. Throws
   * `discovery_access_denied` for an alias into a namespace that is hidden from the caller. Host names are tested when they are resolved. The entries
   * must already be valid in all other respects, and `keys` are their keys.
   */
  check(entries: readonly WithChecks[], keys: readonly KeyText[], caller: Caller): void {
    const withAlias = new Set(keys.filter((_, i) => hasAliasCheck(entries[i])));
    entries.forEach((entry, i) => {
      entry.checks.forEach((check, j) => {
        const field = `entries[${i}].checks[${j}]`;
        this.#checkTarget(check, entry, `${field}.target`);
        if (check.probe.case === "alias") this.#checkAlias(check.probe.value, keys[i], withAlias, caller, `${field}.alias.key`);
      });
    });
  }

  #checkTarget(check: Check, { targets }: WithChecks, field: string): void {
    const host = targetOf(check, targets)?.host;
    if (host === undefined || parseAddress(host) === undefined || this.#parts.reach.allows(host)) return;
    throw invalid(field, `${host} is not in an address block of checks.allowed: add a block that contains it, or check another address`);
  }

  #checkAlias({ key }: AliasProbe, own: KeyText | undefined, withAlias: ReadonlySet<KeyText>, caller: Caller, field: string): void {
    const { clusterId, policies, onDenied, hasAlias } = this.#parts;
    if (key === undefined) throw invalid(field, "is required");
    const other = parseKey(key, field, clusterId, PROTOCOL_BOUNDS);
    const { namespace } = keyParts(other);
    const verdict = policies.policy.viewer(namespace, { clusterId: caller.cluster, tenant: caller.tenant });
    if (!verdict.allowed) {
      onDenied(caller, { action: "register", namespace, verdict });
      throw hiddenError(`${field}.namespace`, namespace);
    }
    if (other === own) throw invalid(field, "must be the key of another entry, not of the entry itself");
    if (withAlias.has(other) || hasAlias(other))
      throw invalid(field, "must be the key of an entry without alias checks: aliases cannot be chained");
  }
}

/** Whether an entry has an alias check, that is, a check that follows the health of another entry. */
export function hasAliasCheck(entry: Pick<WithChecks, "checks"> | undefined): boolean {
  return entry?.checks.some(({ probe }) => probe.case === "alias") === true;
}
