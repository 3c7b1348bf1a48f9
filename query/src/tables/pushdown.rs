//! Which of the user's conditions may run below the tenant's filter: comparisons that cannot fail on any row.

use datafusion::logical_expr::{Expr, Operator};

/// Whether evaluating this can neither fail nor tell anything about rows that it rejects.
pub(super) fn cannot_fail(expression: &Expr) -> bool {
    match expression {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::BinaryExpr(binary) => compares(binary.op) && cannot_fail(&binary.left) && cannot_fail(&binary.right),
        Expr::Not(inner)
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsFalse(inner) => cannot_fail(inner),
        Expr::IsUnknown(inner) | Expr::IsNotTrue(inner) | Expr::IsNotFalse(inner) | Expr::IsNotUnknown(inner) => {
            cannot_fail(inner)
        }
        Expr::Between(between) => {
            [&between.expr, &between.low, &between.high].into_iter().all(|part| cannot_fail(part))
        }
        Expr::InList(list) => cannot_fail(&list.expr) && list.list.iter().all(|item| matches!(item, Expr::Literal(..))),
        Expr::Like(like) => cannot_fail(&like.expr) && matches!(*like.pattern, Expr::Literal(..)),
        _ => false,
    }
}

fn compares(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::And
            | Operator::Or
            | Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use datafusion::logical_expr::{cast, col, lit};

    use super::*;

    #[test]
    fn casts_and_arithmetic_stay_above() {
        assert!(cannot_fail(&col("a").eq(lit("x")).and(col("b").is_not_null())));
        assert!(cannot_fail(&col("a").in_list(vec![lit(1), lit(2)], false)));
        assert!(!cannot_fail(&cast(col("a"), DataType::Int64).gt(lit(1))));
        assert!(!cannot_fail(&(lit(1) / col("a")).gt(lit(1))));
        assert!(!cannot_fail(&col("a").eq(lit(1)).or((lit(1) / col("a")).gt(lit(1)))));
    }
}
