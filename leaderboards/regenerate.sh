#!/bin/sh
# Makes leaderboards/results again from the official RewardMATH score files, and the tables from the results.
# Needs rmbench, and RMBENCH_DATA with rewardmath/scores/*.json (kimsh0507/RewardMATH_official, commit cde06ab).
set -eu
cd "$(dirname "$0")/.."
scores="${RMBENCH_DATA:?names the folder that holds rewardmath/scores}/rewardmath/scores"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

evaluate() {  # exit code 3: some verdicts could not be read, which the result counts
    rmbench run --out "$out" "$@" || [ $? -eq 3 ]
}

evaluate -m demo -m length -m random -t rewardmath_mini -t best_of_n -t length_bias
# One file's rows are the data of all, so that every model is judged on the same 483 problems
while read -r file name; do
    evaluate -m "scores:$scores/${file}_reward.json" --name "RewardMATH-official/$name" \
        -t rewardmath --data "rewardmath=$scores/internlm2_reward.json" </dev/null
done <<'MODELS'
ArmoRM ArmoRM-Llama3-8B-v0.1
Math_Shepherd math-shepherd-mistral-7b-prm
ReasonEval_7B ReasonEval-7B
beaver beaver-7b-v2.0-reward
gpt4o gpt-4o-direct
gpt4o_pairwise gpt-4o-pairwise
internlm2 internlm2-7b-reward
llama3_8B Llama-3-8B-Instruct-direct
llama3_8B_pairwise Llama-3-8B-Instruct-pairwise
oasst-rm oasst-rm-2.1-pythia-1.4b
prometheus_7B prometheus-7b-v2.0-direct
prometheus_7B_pairwise prometheus-7b-v2.0-pairwise
skywork_llama3 Skywork-Reward-Llama-3.1-8B
MODELS

rm -rf leaderboards/results  # what is made anew may lie elsewhere
find "$out" -name '*.json' -exec rmbench leaderboard add {} +
rmbench leaderboard build
