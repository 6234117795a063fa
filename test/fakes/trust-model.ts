/** Which keys a reader of summaries trusts, as a list of facts and a search through all chains: slow, and easy to believe. */

/** An announcement as it was made. Keys are numbers here. */
export interface Told {
  readonly cluster: string;
  readonly key: number;
  readonly by: number;
  readonly fromMs: number;
  readonly untilMs: number;
}

export class TrustModel {
  readonly #maxDepth: number;
  #configured: ReadonlyMap<number, string> = new Map();
  #told: readonly Told[] = [];

  constructor(maxDepth: number) {
    this.#maxDepth = maxDepth;
  }

  /** Key to cluster. */
  configure(keys: ReadonlyMap<number, string>): void {
    this.#configured = keys;
    this.#told = this.#told.filter(({ cluster }) => this.#has(cluster));
  }

  /** Only what was rightly signed is shown to the model. */
  announce(told: Told, wallMs: number): void {
    if (this.#has(told.cluster) && told.by !== told.key && told.untilMs > wallMs) this.#told = [...this.#told, told];
  }

  trusts(cluster: string, key: number, wallMs: number, fuel: number = this.#maxDepth): boolean {
    const owner = this.#configured.get(key);
    if (owner !== undefined) return owner === cluster;
    return this.#told.some(
      (told) =>
        fuel > 0 &&
        told.cluster === cluster &&
        told.key === key &&
        told.fromMs <= wallMs &&
        wallMs < told.untilMs &&
        this.trusts(cluster, told.by, wallMs, fuel - 1),
    );
  }

  #has(cluster: string): boolean {
    return [...this.#configured.values()].includes(cluster);
  }
}
