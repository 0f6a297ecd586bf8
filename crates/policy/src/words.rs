//! Requirements in words, for people.

use contract::policy::Step;

use crate::expr::describe;

/// A step, like `product>=3; rather lang:de>=5 (10); until 60 s`.
#[must_use]
pub fn step(step: &Step) -> String {
    let mut parts = vec![if step.must.is_always() { "anybody".to_owned() } else { describe(&step.must) }];
    parts.extend(step.prefer.iter().map(|rather| format!("rather {} ({})", describe(&rather.when), rather.weight)));
    let pool = &step.pool;
    let queues = pool.queues.iter().map(|queue| format!("queue {queue}"));
    let groups = pool.groups.iter().map(|group| format!("group {group}"));
    let also: Vec<String> = queues.chain(groups).chain(pool.agents.iter().map(ToString::to_string)).collect();
    if !also.is_empty() {
        parts.push(format!("{} {}", if pool.only { "of" } else { "also of" }, also.join(", ")));
    }
    parts.extend(pool.tier_max.map(|tier| format!("up to tier {tier}")));
    parts.extend((step.boost != 0).then(|| format!("priority {:+}", step.boost)));
    parts.extend(step.until_ms.map(|until| format!("until {} s", until.0 / 1000)));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_like_what_it_asks() {
        let step: Step = toml::from_str(
            r#"
            until_ms = 60000
            boost = 2
            must = { skill = "product", min = 3 }
            prefer = [{ when = { skill = "lang:de", min = 5 }, weight = 10 }]
            pool = { groups = ["night"], tier_max = 1 }
            "#,
        )
        .unwrap();
        assert_eq!(
            super::step(&step),
            "product>=3; rather lang:de>=5 (10); also of group night; up to tier 1; priority +2; until 60 s"
        );
        assert_eq!(super::step(&Step::default()), "anybody");
    }
}
