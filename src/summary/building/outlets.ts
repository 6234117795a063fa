/** On which channels the policy and the settings let a service out, from which scope on entries count there, and until when (docs/design/summaries.md, Building). */
import { isControlNamespace, namespaceCovers } from "../../catalog/entry/names.ts";
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import { exportScopesAt, type NamespaceRule, nextEdge } from "../../policy/set/rules.ts";
import type { Policy, RecordSource, VerdictReason } from "../../policy/set/verdict.ts";
import type { Channel } from "../summary.ts";

/** Edges of windows that are looked at to find the end of an outlet. With more it ends at the last of these, where it is looked at again. */
const MAX_EDGES = 64;

export const CHANNELS: readonly Channel[] = [SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL];

/** What the settings say of exports. */
export interface ExportOptions {
  /** The own cluster and region. */
  readonly source: RecordSource;
  /** The widest channel. */
  readonly exportScope: Channel;
  /** Whether a rule that lists no scopes, and a namespace without a rule, export on the channel of `exportScope`. */
  readonly includeUnscoped: boolean;
  /** Prefixes of the namespaces that may be exported. Empty: all. */
  readonly exportNamespaces: readonly string[];
}

/** A channel on which a service is exported. */
export interface Outlet {
  readonly channel: Channel;
  /** Entries of this scope and wider ones count. */
  readonly leastScope: Scope;
  /** The first instant at which time alone closes it. Undefined: none does. */
  readonly notAfterWallMs: number | undefined;
}

export interface Permission {
  readonly outlets: readonly Outlet[];
  /** Pattern of the rule that decides; empty without one. */
  readonly rule: string;
  /** The rule has windows. */
  readonly noStale: boolean;
  /** The next instant at which time alone may change this. */
  readonly untilWallMs: number | undefined;
  /** Equal for permissions under which the same is exported. */
  readonly text: string;
}

interface Kept {
  readonly permission: Permission;
  readonly sinceWallMs: number;
}

const NOTHING: Permission = { outlets: [], rule: "", noStale: false, untilWallMs: undefined, text: "" };

/** The permissions under one policy. Namespaces of one rule share one. */
export class Outlets {
  readonly policy: Policy;
  readonly #options: ExportOptions;
  /** By rule, and so no more than the policy has. */
  readonly #kept = new Map<NamespaceRule | undefined, Kept>();

  constructor(policy: Policy, options: ExportOptions) {
    this.policy = policy;
    this.#options = options;
  }

  /** HOT: once a service that is looked at. */
  of(namespace: string, wallMs: number): Permission {
    const { exportNamespaces } = this.#options;
    if (exportNamespaces.length > 0 && !exportNamespaces.some((prefix) => namespaceCovers(prefix, namespace))) return NOTHING;
    const rule = this.policy.ruleOf(namespace);
    const kept = this.#kept.get(rule);
    // The clock may be set back.
    if (kept !== undefined && wallMs >= kept.sinceWallMs && !(wallMs >= (kept.permission.untilWallMs ?? Infinity))) return kept.permission;
    const permission = this.#judge(namespace, rule, wallMs);
    this.#kept.set(rule, { permission, sinceWallMs: wallMs });
    return permission;
  }

  #judge(namespace: string, rule: NamespaceRule | undefined, wallMs: number): Permission {
    const isGlobalListed = rule !== undefined && exportScopesAt(rule, wallMs).includes(SCOPE.GLOBAL);
    const windows = rule?.cutoverWindows ?? [];
    const outlets = this.#channelsAt(namespace, rule, wallMs).map((channel) => {
      // A rule that lists GLOBAL says that entries of its region may be told abroad, too.
      const leastScope = channel === SCOPE.GLOBAL && isGlobalListed ? SCOPE.REGION : channel;
      return { channel, leastScope, notAfterWallMs: this.#endOf(namespace, rule, { channel, wallMs }) };
    });
    const noStale = windows.length > 0;
    const text = outlets.map((outlet) => `${outlet.channel}/${outlet.leastScope}/${outlet.notAfterWallMs}`).join(" ");
    const untilWallMs = nextEdge(windows, wallMs);
    return { outlets, rule: rule?.pattern ?? "", noStale, untilWallMs, text: `${text} ${noStale}` };
  }

  /** Windows that follow each other without a gap are one: the summary must not end at readers for a moment in between. */
  #endOf(namespace: string, rule: NamespaceRule | undefined, { channel, wallMs }: { readonly channel: Channel; readonly wallMs: number }) {
    const windows = rule?.cutoverWindows ?? [];
    let edge = nextEdge(windows, wallMs);
    for (let i = 1; edge !== undefined && i < MAX_EDGES; i += 1) {
      if (!this.#channelsAt(namespace, rule, edge).includes(channel)) return edge;
      edge = nextEdge(windows, edge);
    }
    return edge;
  }

  #channelsAt(namespace: string, rule: NamespaceRule | undefined, wallMs: number): readonly Channel[] {
    const listed = rule === undefined ? [] : exportScopesAt(rule, wallMs);
    const isAllowed = (scope: Channel) => this.policy.exportSummary(namespace, this.#options.source, { scope, wallMs }).allowed;
    return channelsOf(listed, this.#options).filter(isAllowed);
  }
}

/** Why the policy, or a setting, lets summaries of a namespace out, or does not. */
export interface ExportVerdict {
  readonly allowed: boolean;
  readonly reason: VerdictReason | "export_disabled" | "namespace_not_exported" | "unscoped_not_exported";
}

/** For people: whether a namespace has an outlet. If not, the widest channel that is meant says why. */
export function exportVerdict(policy: Policy, namespace: string, options: ExportOptions, wallMs: number): ExportVerdict {
  const { exportNamespaces, source } = options;
  // No setting changes that.
  if (isControlNamespace(namespace)) return { allowed: false, reason: "control_plane" };
  if (exportNamespaces.length > 0 && !exportNamespaces.some((prefix) => namespaceCovers(prefix, namespace)))
    return { allowed: false, reason: "namespace_not_exported" };
  const rule = policy.ruleOf(namespace);
  const listed = rule === undefined ? [] : exportScopesAt(rule, wallMs);
  const channels = channelsOf(listed, options).toReversed();
  const verdicts = channels.map((scope) => policy.exportSummary(namespace, source, { scope, wallMs }));
  const verdict = verdicts.find(({ allowed }) => allowed) ?? verdicts[0];
  if (verdict !== undefined) return verdict;
  return { allowed: false, reason: listed.length > 0 ? "scope_denied" : "unscoped_not_exported" };
}

/** The channels that a rule which lists these scopes means. */
export function channelsOf(
  listed: readonly Scope[],
  { exportScope, includeUnscoped }: Pick<ExportOptions, "exportScope" | "includeUnscoped">,
): readonly Channel[] {
  return CHANNELS.filter((channel) =>
    listed.length > 0 ? listed.includes(channel) && channel <= exportScope : includeUnscoped && channel === exportScope,
  );
}
