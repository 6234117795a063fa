/**
 * Implements the load-balancing policy `waymark` for grpc-js channels. It selects endpoints in the same way as a live map: by locality level, by
 * weight within a level, and without endpoints that fail repeatedly (semantics.md, Selection). An endpoint without a connection is treated as an
 * unhealthy entry. Importing this module registers the policy.
 */
import { type ChannelOptions, connectivityState, experimental, status } from "@grpc/grpc-js";
import { Chooser } from "../../consumer/chooser.ts";
import { type Candidate, fitnessOf } from "../../consumer/endpoint.ts";
import { LEVELS, type RankOptions, rankOf, SELECT_POLICY, shareLevels, type ZoneLocality } from "../../consumer/locality-levels.ts";
import type { Time } from "../../lib/machine.ts";
import type { AddressedEntry } from "./addresses.ts";

const POLICY = "waymark";
/**
 * Attribute of the name resolver's answer that contains the entries of its endpoints. Because of its name, grpc-js excludes it from the identity of a
 * connection, so channels share connections even if the attribute differs.
 */
export const NAMED_ATTRIBUTE = `${experimental.SUBCHANNEL_ARGS_EXCLUDE_KEY_PREFIX}.${POLICY}`;
/** The numeric value of MAINTENANCE. Such an entry is not chosen, but is counted as a member of its level. */
const NOT_CHOOSABLE = 4;
/** Status codes after which the call might succeed on another endpoint. */
const FAULTS: ReadonlySet<status> = new Set([status.UNAVAILABLE, status.DEADLINE_EXCEEDED]);

const { READY, IDLE, CONNECTING, TRANSIENT_FAILURE } = connectivityState;

/** The entries of an answer's endpoints, in the same order, and the program's location. */
export class NamedEndpoints {
  readonly entries: readonly AddressedEntry[];
  readonly place: ZoneLocality;

  constructor(entries: readonly AddressedEntry[], place: ZoneLocality) {
    this.entries = entries;
    this.place = place;
  }
}

class BalancerConfig implements experimental.TypedLoadBalancingConfig {
  static createFromJson(): BalancerConfig {
    return new BalancerConfig();
  }

  getLoadBalancerName(): string {
    return POLICY;
  }

  toJsonObject(): object {
    return { [POLICY]: {} };
  }
}

/** An endpoint with its connection. */
class BalancedEndpoint implements Candidate {
  readonly entry: AddressedEntry;
  readonly leaf: experimental.LeafLoadBalancer;
  readonly level: number;

  constructor(entry: AddressedEntry, leaf: experimental.LeafLoadBalancer, options: RankOptions) {
    this.entry = entry;
    this.leaf = leaf;
    this.level = rankOf(fitnessOf(entry), entry.view, options) % LEVELS;
  }

  get key(): string {
    return this.entry.key;
  }

  /** Only connected endpoints are chosen. */
  get view(): Candidate["view"] {
    const { view } = this.entry;
    return this.state === READY ? view : { ...view, health: NOT_CHOOSABLE };
  }

  get state(): connectivityState {
    return this.leaf.getConnectivityState();
  }
}

/** The balancer of one channel. It connects to each endpoint in the levels that receive traffic. */
class WaymarkBalancer implements experimental.LoadBalancer {
  readonly #channel: experimental.ChannelControlHelper;
  /** The start position, which differs between channels, so that not all of them start with the same endpoint. */
  readonly #start = Math.random();
  #members = new Map<string, BalancedEndpoint>();
  #options: RankOptions = { policy: SELECT_POLICY.ROUND_ROBIN, region: "", zone: "" };
  #chooser = new Chooser<BalancedEndpoint>({ ...this.#options, start: this.#start });
  #state: connectivityState = IDLE;
  #lastError = "";
  /** True while members are being added and removed, because their states are incomplete during that time. */
  #isChanging = false;

  constructor(channel: experimental.ChannelControlHelper) {
    this.#channel = channel;
  }

  updateAddressList(
    list: experimental.StatusOr<experimental.Endpoint[]>,
    config: experimental.TypedLoadBalancingConfig,
    options: ChannelOptions,
    note: string,
  ): boolean {
    if (!(config instanceof BalancerConfig)) return false;
    if (!list.ok) {
      if (this.#members.size === 0) this.#refuse(list.error.details);
      return true;
    }
    const named: unknown = options[NAMED_ATTRIBUTE];
    this.#change(list.value, named instanceof NamedEndpoints ? named : unnamed(list.value), options, note);
    if (list.value.length === 0) this.#refuse(note);
    else this.#settle();
    return true;
  }

  exitIdle(): void {
    // Nothing to do, because the balancer connects without being asked to.
  }

  resetBackoff(): void {
    // Nothing to do, because the connections have their own backoff.
  }

  destroy(): void {
    this.#isChanging = true;
    for (const { leaf } of this.#members.values()) leaf.destroy();
    this.#members.clear();
  }

  getTypeName(): string {
    return POLICY;
  }

  /** Replaces the endpoints. Endpoints that are not removed keep their connections and their position in the rotation. */
  #change(endpoints: readonly experimental.Endpoint[], { entries, place }: NamedEndpoints, options: ChannelOptions, note: string): void {
    this.#isChanging = true;
    if (place.region !== this.#options.region || place.zone !== this.#options.zone) {
      this.#options = { policy: SELECT_POLICY.ROUND_ROBIN, region: place.region, zone: place.zone };
      this.#chooser = new Chooser({ ...this.#options, start: this.#start });
    }
    const before = this.#members;
    this.#members = new Map();
    for (const [i, endpoint] of endpoints.entries()) {
      const entry = entries[i];
      if (entry === undefined) continue;
      const held = before.get(entry.key);
      const isSame =
        held !== undefined && experimental.endpointToString(held.leaf.getEndpoint()) === experimental.endpointToString(endpoint);
      const member = new BalancedEndpoint(entry, isSame ? held.leaf : this.#leaf(entry.key, endpoint, options, note), this.#options);
      if (isSame) before.delete(entry.key);
      this.#members.set(entry.key, member);
      this.#chooser.put(member);
    }
    for (const [key, { leaf }] of before) {
      leaf.destroy();
      if (!this.#members.has(key)) this.#chooser.remove(key);
    }
    this.#isChanging = false;
  }

  #leaf(key: string, endpoint: experimental.Endpoint, options: ChannelOptions, note: string): experimental.LeafLoadBalancer {
    const updateState = (state: connectivityState, _picker: experimental.Picker, error: string | null): void => {
      if (error !== null) this.#lastError = error;
      const member = this.#members.get(key);
      if (member?.leaf !== leaf) return;
      this.#chooser.put(member);
      if (this.#isChanging) return;
      // The endpoint may already have been removed from the registry.
      if (this.#state === READY && state !== READY) this.#channel.requestReresolution();
      this.#settle();
    };
    const helper = experimental.createChildChannelControlHelper(this.#channel, { updateState });
    const leaf = new experimental.LeafLoadBalancer(endpoint, helper, options, note);
    return leaf;
  }

  /** Connects to the endpoints that should receive traffic, and reports the state to the channel. */
  #settle(): void {
    if (this.#isChanging) return;
    this.#isChanging = true;
    const shares = this.#sharesOfLevels();
    for (const { state, level, leaf } of this.#members.values()) if (state === IDLE && (shares[level] ?? 0) > 0) leaf.startConnecting();
    this.#isChanging = false;
    const states = new Set([...this.#members.values()].map(({ state }) => state));
    if (states.has(READY)) this.#report(READY, new EndpointPicker(this.#chooser));
    else if (states.has(CONNECTING) || !states.has(TRANSIENT_FAILURE)) this.#report(CONNECTING, new experimental.QueuePicker(this));
    else this.#refuse(`no connection could be made: ${this.#lastError}`);
  }

  /** The share of traffic for each level, assuming that every endpoint that has not failed connects. */
  #sharesOfLevels(): Float64Array {
    const [able, all, shares] = [new Float64Array(LEVELS), new Float64Array(LEVELS), new Float64Array(LEVELS)];
    for (const { level, state } of this.#members.values()) {
      all[level] = (all[level] ?? 0) + 1;
      if (state !== TRANSIENT_FAILURE) able[level] = (able[level] ?? 0) + 1;
    }
    shareLevels(able, all, shares);
    return shares;
  }

  #refuse(details: string): void {
    this.#report(TRANSIENT_FAILURE, new experimental.UnavailablePicker({ details }), details);
  }

  // oxlint-disable-next-line unicorn/no-null -- grpc-js wants null
  #report(state: connectivityState, picker: experimental.Picker, error: string | null = null): void {
    this.#state = state;
    this.#channel.updateState(state, picker, error);
  }
}

class EndpointPicker implements experimental.Picker {
  readonly #chooser: Chooser<BalancedEndpoint>;

  constructor(chooser: Chooser<BalancedEndpoint>) {
    this.#chooser = chooser;
  }

  pick(args: experimental.PickArgs): experimental.PickResult {
    const chooser = this.#chooser;
    const endpoint = chooser.choose(now(), Math.random);
    if (endpoint === undefined) return new experimental.UnavailablePicker({ details: "no connection is ready" }).pick(args);
    const picked = endpoint.candidate.leaf.getPicker().pick(args);
    if (picked.pickResultType !== experimental.PickResultType.COMPLETE) return picked;
    let beganMonoMs = 0;
    return {
      ...picked,
      onCallStarted: () => {
        picked.onCallStarted?.();
        beganMonoMs = performance.now();
        chooser.started(endpoint);
      },
      onCallEnded: (code, details, metadata) => {
        picked.onCallEnded?.(code, details, metadata);
        const time = now();
        if (FAULTS.has(code)) chooser.failed(endpoint, time);
        else chooser.succeeded(endpoint, time.monoMs - beganMonoMs, time);
      },
    };
  }
}

/** Wraps the endpoints of another name resolver, with equal priority and without a location. */
function unnamed(endpoints: readonly experimental.Endpoint[]): NamedEndpoints {
  const nowhere = { region: "", zone: "" };
  const entries = endpoints.map((endpoint) => ({
    key: experimental.endpointToString(endpoint),
    addresses: [],
    view: { ...nowhere, health: 0 as const, targets: [], load: undefined },
  }));
  return new NamedEndpoints(entries, nowhere);
}

function now(): Time {
  return { monoMs: performance.now(), wallMs: Date.now() };
}

experimental.registerLoadBalancerType(POLICY, WaymarkBalancer, BalancerConfig);
